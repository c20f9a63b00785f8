"""The REST API of work: sign in, tokens, my projects, tasks, answers, skip, undo, history. Under /api/v1.

Bearer tokens, or the browser's session with the header X-CSRF-Token on writes. Every refusal is a Problem.
Left out on purpose: what leads do (api_lead.py).
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from posttrain.store import Answer, ApiToken, Person, Store, Task
from posttrain.web import pages, work
from posttrain.web.guard import AtStore, Caller, EventNumber, require, store_of
from posttrain.web.shapes import (
    HistoryEntry,
    Join,
    Me,
    NewToken,
    Problem,
    ProjectOut,
    Receipt,
    SignedIn,
    SignIn,
    SkipIn,
    TaskOut,
    Token,
    Undone,
)  # fmt: skip

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem} for code in (401, 403, 404, 409, 410, 413, 422, 429, 503)
}
router = APIRouter(prefix="/api/v1", responses=PROBLEMS)


def me_of(person: Person) -> Me:
    return Me(id=person.id, name=person.name, admin=person.admin)


@router.post("/sign-in", tags=["Session"])
def sign_in(request: Request, given: SignIn, store: AtStore) -> SignedIn:
    """Name and password for an API token"""
    session = pages.enter(request, given.name, given.password)
    person = store.person_of(session)
    store.sign_out(session)
    assert person is not None  # the session is a moment old
    return SignedIn(token=store.api_token(person, given.label), person=me_of(person))


@router.post("/join", tags=["Session"])
def join(given: Join, store: AtStore) -> SignedIn:
    """Take up an invitation: makes the person and an API token"""
    person = store.accept(given.invitation, given.name, given.password)
    return SignedIn(token=store.api_token(person, given.label), person=me_of(person))


@router.get("/me", tags=["Session"])
def me(person: Caller) -> Me:
    """Who the token belongs to"""
    return me_of(person)


@router.get("/tokens", tags=["Session"])
def tokens(person: Caller, store: AtStore) -> list[ApiToken]:
    """My API tokens, without their secrets"""
    return store.api_tokens(person)


@router.post("/tokens", tags=["Session"])
def make_token(person: Caller, given: NewToken, store: AtStore) -> Token:
    """A new API token, shown once"""
    return Token(token=store.api_token(person, given.label))


@router.delete("/tokens/{token_id}", tags=["Session"], status_code=204)
def revoke_token(person: Caller, token_id: str, store: AtStore) -> None:
    """Revoke a token of mine"""
    store.revoke_token(person, token_id)


@router.get("/projects", tags=["Work"])
def projects(person: Caller, store: AtStore) -> list[ProjectOut]:
    """My projects"""
    return [project_out(store, person, p.slug) for p in store.projects_of(person)]


@router.get("/projects/{slug}", tags=["Work"])
def project(person: Caller, slug: str, store: AtStore) -> ProjectOut:
    """One of my projects"""
    return project_out(store, person, slug)


def project_out(store: Store, person: Person, slug: str) -> ProjectOut:
    role = require(store, person, slug)
    found, progress = store.project(slug), store.progress(slug)
    return ProjectOut(
        slug=slug, title=found.settings.title, kind=found.settings.kind, instructions=found.settings.instructions,
        role=role, closed=found.closed, items=progress.items, done=progress.done,
    )  # fmt: skip


def task_out(task: Task | None) -> TaskOut | None:
    return None if task is None else TaskOut.model_validate(task.model_dump(exclude={"leak"}))


@router.get("/projects/{slug}/tasks/next", tags=["Work"])
def next_task(person: Caller, slug: str, store: AtStore) -> TaskOut | None:
    """My current task, leased to me; null when nothing is left for me"""
    require(store, person, slug)
    return task_out(store.next_task(person, slug))


@router.get("/projects/{slug}/tasks/peek", tags=["Work"])
def peek_task(person: Caller, slug: str, store: AtStore) -> TaskOut | None:
    """What comes after my current task, leased as well"""
    require(store, person, slug)
    return task_out(store.peek_task(person, slug))


@router.post("/tasks/{task_id}/answer", tags=["Work"])
def answer(person: Caller, task_id: str, given: Answer, store: AtStore) -> Receipt:
    """Answer a task of mine; the same answer twice is one event, another one is a conflict"""
    event = store.submit(person, task_id, given)
    return Receipt(event=event.number, hash=event.hash, at=event.at)


@router.post("/tasks/{task_id}/skip", tags=["Work"])
def skip(person: Caller, task_id: str, given: SkipIn, store: AtStore) -> Receipt:
    """Skip a task of mine, with the reason"""
    event = store.skip(person, task_id, given.reason)
    return Receipt(event=event.number, hash=event.hash, at=event.at)


@router.post("/projects/{slug}/undo", tags=["Work"])
def undo(person: Caller, slug: str, store: AtStore, event_number: EventNumber | None = None) -> Undone:
    """Take my last answer or skip back, or the one of that event; its task comes first again"""
    event = store.undo(person, slug, event_number)
    return Undone(event=event.number if event else None)


@router.get("/projects/{slug}/history", tags=["Work"])
def history(
    request: Request, person: Caller, slug: str, limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: EventNumber | None = None,
) -> list[HistoryEntry]:  # fmt: skip
    """My answers, newest first, as I saw them"""
    store = store_of(request)
    require(store, person, slug)
    votes = store.history(person, slug, limit=limit, before=before)
    return [HistoryEntry.model_validate(work.seen(store, slug, v)) for v in votes]
