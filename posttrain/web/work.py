"""The pages of somebody who labels: the task, the answer, skip, undo, my answers.

One template renders a task, for the first page as for the ones that the script preloads, and its form works without
the script. An answer to the script (header X-Fragment) says what to show next, so an answer is one request.
Left out on purpose: leads' pages (lead.py).
"""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from posttrain.errors import UserError
from posttrain.rows import explain
from posttrain.store import Answer, Closed, Event, Person, Store, Task, Vote
from posttrain.web import words
from posttrain.web.guard import AtStore, EventNumber, Form, Visitor, csrf_of, form, require, store_of, visitor
from posttrain.web.view import go, page, render

router = APIRouter(include_in_schema=False)
HISTORY = 20


@router.get("/p/{slug}")
def label(request: Request, slug: str, me: Visitor, store: AtStore) -> Response:
    """The labelling page with the current task in it."""
    role = require(store, me, slug)
    if role == "viewer":
        return go(f"/p/{slug}/quality")
    project = store.project(slug)
    task = None if project.closed else store.next_task(me, slug)
    facts = progress(store, slug)
    return page(
        request, "label.html", me, project=project, role=role, **facts,
        **task_words(task, facts["items"], closed=project.closed),
        shortcuts=words.shortcuts(project.settings.kind), first=not store.history(me, slug, limit=1),
    )  # fmt: skip


@router.get("/p/{slug}/next")
def following(request: Request, slug: str, me: Visitor, store: AtStore, shown: str = "") -> Response:
    """What to show after `shown`, for the script; with no `shown`, the current task and the one after it."""
    return JSONResponse(upcoming(request, store, me, slug, shown))


async def vote(request: Request) -> Response:
    """The one request that comes for every answer: a plain route, and one trip to a thread, where FastAPI takes two."""
    return await run_in_threadpool(_vote, request, await form(request))


router.add_route("/p/{slug}/vote", vote, methods=["POST"])


def _vote(request: Request, fields: FormData) -> Response:
    me, store = visitor(request), store_of(request)
    event = store.submit(me, str(fields.get("task", "")), answer_of(fields))
    return _after(request, store, me, request.path_params["slug"], fields, event)


@router.post("/p/{slug}/skip")
def skip(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    event = store.skip(me, str(fields.get("task", "")), str(fields.get("skip") or words.SKIPS[-1])[:200])
    return _after(request, store, me, slug, fields, event)


@router.post("/p/{slug}/undo")
def undo(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    """Takes back the last answer or skip, or the one of a given event."""
    given = str(fields.get("event", ""))
    event = store.undo(me, slug, int(given) if given.isdecimal() and len(given) < 10 else None)
    if "x-fragment" not in request.headers:
        return go(f"/p/{slug}")
    return JSONResponse({"undone": event is not None, **upcoming(request, store, me, slug, "")})


def _after(request: Request, store: Store, me: Person, slug: str, fields: FormData, event: Event) -> Response:
    """The next page; for the script a receipt (the event is on disk) and what to show next."""
    if "x-fragment" not in request.headers:
        return go(f"/p/{slug}")
    receipt = {"event": event.number, "hash": event.hash}
    return JSONResponse({"receipt": receipt, **upcoming(request, store, me, slug, str(fields.get("shown", "")))})


def upcoming(request: Request, store: Store, me: Person, slug: str, shown: str) -> dict[str, Any]:
    """Progress, and the tasks that the browser lacks when it shows `shown`: the current one and the one after it.

    The store checks who asks. This runs once for each answer, so it asks the store no more than it must.
    """
    offers, closed = [], False
    try:
        offers = [store.offer(me, slug, 1 if shown else 0)]
        if not shown and offers[0].task:
            offers.append(store.offer(me, slug, 1))
    except Closed:
        closed = True
    items, done = offers[-1][1:] if offers else store.finished(slug)
    tasks = [offer.task for offer in offers if offer.task and offer.task.id != shown]

    def html(task: Task | None) -> str:
        values = task_words(task, items, closed=closed)
        return render("task.html", csrf=csrf_of(request), project={"slug": slug}, **values)

    return {
        "items": items, "done": done, "count": f"{done:,} of {items:,}",
        "tasks": [{"task": t.id, "html": html(t)} for t in tasks], "nothing": "" if tasks or shown else html(None),
    }  # fmt: skip


def progress(store: Store, slug: str) -> dict[str, Any]:
    items, done = store.finished(slug)
    return {"items": items, "done": done}


def task_words(task: Task | None, items: int, *, closed: bool) -> dict[str, Any]:
    """Everything that task.html prints besides the task."""
    state = "closed" if closed else "done" if items else "empty"
    title, text = words.NOTHING[state]
    return {
        "task": task, "words": words.TASKS[task.kind] if task else None, "letters": words.LETTERS,
        "strengths": words.STRENGTHS, "short": words.SHORT, "flags": words.FLAGS, "bins": words.BINS,
        "skips": words.SKIPS, "nothing": {"title": title, "text": text, "undo": state == "done"},
    }  # fmt: skip


def answer_of(fields: Mapping[str, Any]) -> Answer:
    """The answer that a posted form means. UserError says which field is wrong."""
    get = {k: str(v) for k, v in fields.items()}
    given: dict[str, Any] = {"reason": get.get("reason", "").strip(), "seconds": get.get("seconds") or 0}
    given |= _choice(get.get("vote", "")) | _numbered(get)
    if get.get("rating"):
        given["rating"] = get["rating"]
    if isinstance(fields, FormData) and fields.getlist("flags"):
        given["flags"] = [str(f) for f in fields.getlist("flags")]
    if get.get("thumb"):
        given["thumb"] = get["thumb"] == "up"
    if get.get("text", "").strip():
        given["text"] = get["text"].replace("\r\n", "\n").strip()
        given["which"] = get.get("which") or None
    try:
        return Answer.model_validate(given)
    except ValidationError as error:
        raise UserError(explain(error), remedy="go back, correct it and send it again") from None


def _choice(vote: str) -> dict[str, Any]:
    """'a3' -> A, strength 3; 'tie' and 'both_bad' as they are."""
    if len(vote) == 2 and vote[0] in "ab":
        return {"choice": vote[0], "strength": vote[1]}
    return {"choice": vote} if vote else {}


def _numbered(get: Mapping[str, str]) -> dict[str, Any]:
    """rank_0, rank_1 ... and safety_0, safety_1 ... as tuples; ranks are made dense, 0 best."""
    found: dict[str, Any] = {}
    ranks = [get[f"rank_{i}"] for i in range(len(words.LETTERS)) if f"rank_{i}" in get]
    if ranks and all(r.isdecimal() and len(r) < 4 for r in ranks):
        order = sorted({int(r) for r in ranks})
        found["ranks"] = tuple(order.index(int(r)) for r in ranks)
    elif ranks:
        raise UserError("a rank is not a number", remedy="give each answer a rank from 1 to 9")
    bins = tuple(get[f"safety_{i}"] for i in range(len(words.LETTERS)) if f"safety_{i}" in get)
    return found | ({"safety": bins} if bins else {})


@router.get("/p/{slug}/history")
def history(request: Request, slug: str, me: Visitor, store: AtStore, before: EventNumber | None = None) -> Response:
    """My answers, newest first, as I saw them: in the order that was shown to me."""
    role = require(store, me, slug)
    votes = store.history(me, slug, limit=HISTORY + 1, before=before)
    entries = [seen(store, slug, v) for v in votes[:HISTORY]]
    return page(
        request, "history.html", me, project=store.project(slug), role=role, tab="/history", entries=entries,
        before=before, older=votes[HISTORY - 1].event if len(votes) > HISTORY else None, letters=words.LETTERS,
    )  # fmt: skip


def seen(store: Store, slug: str, vote: Vote) -> dict[str, Any]:
    """A vote as its person saw it: the answers in presented order and what was said of them; nothing else."""
    item = store.item(slug, vote.item)
    presented = vote.presented or tuple(range(len(item.answers)))
    names = ("A", "B") if presented[:1] != (1,) else ("B", "A")
    ranks = tuple(vote.ranks[i] for i in presented) if vote.ranks else None
    safety = tuple(vote.safety[i] for i in presented) if vote.safety else None
    marks = [f"rank {r + 1}" for r in ranks] if ranks else list(safety or ())
    return {
        "event": vote.event, "at": vote.at, "seconds": vote.seconds, "text": vote.text or "", "reason": vote.reason,
        "prompt": item.prompt, "answers": [item.answers[i].text for i in presented], "marks": marks,
        "said": words.said(vote.model_copy(update={"ranks": ranks, "safety": safety}), names),
    }  # fmt: skip
