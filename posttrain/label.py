"""`posttrain label`: open the store, make the project and its items if they are not there yet, serve the pages.

Running the same command again goes on where it was: items that exist are left alone, answers that were sampled are
not sampled again. Left out on purpose: TLS (a reverse proxy has it), daemons.
"""

import asyncio
import glob
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from posttrain import listen
from posttrain.errors import UserError, nearest
from posttrain.files import records
from posttrain.rows import Message, Messages, Prompt, digest
from posttrain.store import SYSTEM, Candidate, Missing, ProjectSettings, TaskItem, leaks, read_items
from posttrain.store.rows import ANSWERS

if TYPE_CHECKING:
    from posttrain.store import Kind, Store

Say = Callable[[str], None]


def label(
    project: str, *, kind: "Kind | None" = None, title: str = "", labels: int = 1, items: str | None = None,
    models: Sequence[str] = (), prompts: str | None = None, db: str = "sqlite:///feedback.db", host: str = "127.0.0.1",
    port: int = 8000, temperature: float = 0.8, max_new: int = 256, workers: int = 1, say: Say = print,
) -> None:  # fmt: skip
    """Serve until stopped. UserError for a port in use, a project of another kind, items that cannot be read."""
    from posttrain.store import Store

    if bool(models) != bool(prompts):
        raise UserError(
            "models and prompts belong together",
            remedy="--models A B --prompts FILE; --model once for each where there are more, or one",
        )
    if workers > 1 and not db.startswith("postgres"):
        raise UserError("SQLite has one writer: several workers need PostgreSQL", remedy="--db postgresql://...")
    listener = listen.bind(host, port)
    with closing(listener), closing(Store.open(db)) as store:
        wanted = kind_of(store, project, kind)  # items first: one that cannot be read must not leave a project behind
        read = (served(items, wanted) or list(read_items(items, wanted))) if items else []
        settled = settle(store, project, kind, title, labels, say)
        if read:
            add(store, project, read, say)
        if models:
            add(store, project, sampled(store, project, settled, models, str(prompts), temperature, max_new, say), say)
        announce(store, project, listener, say)
        options = {"access_log": False, "server_header": False}
        if workers > 1:
            listen.serve_many(partial(application, db, workers), listener, workers, **options)
        else:
            from posttrain.web import create_app

            listen.serve(create_app(store), listener, **options)


def settle(store: "Store", slug: str, kind: "Kind | None", title: str, labels: int, say: Say) -> "Kind":
    """The kind of the project, which is made when there is none of that name."""
    wanted = kind_of(store, slug, kind)
    try:
        store.project(slug)
    except Missing:
        named = title or slug.replace("-", " ").capitalize()
        store.create_project(SYSTEM, slug, ProjectSettings(kind=wanted, title=named, labels_per_item=labels))
        say(f"project {slug}: made, {wanted}")
    return wanted


def kind_of(store: "Store", slug: str, kind: "Kind | None") -> "Kind":
    """What the project is, or would be. UserError when it is there and of another kind."""
    try:
        found = store.project(slug).settings.kind
    except Missing:
        return kind or "pair"
    if kind is not None and kind != found:
        raise UserError(
            f"project {slug!r} is of kind {found}, not {kind}", remedy="leave --kind out, or name another project"
        )
    return found


def known_kind(kind: str | None) -> "Kind | None":
    """What was typed as --kind. UserError when there is no such kind."""
    if kind is not None and kind not in ANSWERS:
        raise UserError(f"there is no kind of task {kind!r}", remedy=nearest(kind, ANSWERS))
    return cast("Kind | None", kind)


def add(store: "Store", slug: str, items: Iterable[TaskItem], say: Say) -> None:
    """Import those items that the project does not have yet."""
    known = {item.id for item in store.items(slug)}
    every = list(items)
    new = [item for item in every if item.id not in known]
    added = store.add_items(SYSTEM, slug, new) if new else 0
    say(
        f"items: {added:,} imported"
        + (f", {len(every) - len(new):,} were there already" if len(new) < len(every) else "")
        + (f"; {leaky}" if (leaky := leaks.told(new)) else "")
    )


def served(source: str, kind: "Kind") -> list[TaskItem]:
    """Items of a serving log (feedback.jsonl): the different answers to each conversation; [] if it is no such file.

    What was said of them there is not taken over, and conversations that are held out stay so.
    """
    low, high = ANSWERS[kind]
    found: dict[str, tuple[Messages, dict[str, Candidate]]] = {}
    for opinion in _opinions(source):
        if not opinion.get("held_out"):
            turns = tuple(Message.model_validate(m) for m in opinion["prompt"])
            _, texts = found.setdefault(digest([m.model_dump() for m in turns]), (turns, {}))
            for text in filter(None, (opinion["answer"], opinion.get("other"))):
                texts.setdefault(text, Candidate(text=text, model=opinion.get("model", "")))
    items = []
    for name, (turns, texts) in found.items():
        candidates = tuple(texts.values())
        groups = [(c,) for c in candidates] if low == 1 else [candidates[:high]]
        items += [
            TaskItem(id=f"served-{name}-{n}", prompt=turns, answers=group)
            for n, group in enumerate(groups) if len(group) >= low
        ]  # fmt: skip
    return items


def _opinions(source: str) -> list[dict[str, Any]]:
    """The lines of a serving log; [] when the file is something else."""
    if not source.endswith(".jsonl") or not Path(source).is_file():
        return []
    values = [r.value for r in records(source) if not r.problem]
    return (
        values if all(isinstance(v, dict) and {"completion_id", "prompt", "answer"} <= set(v) for v in values) else []
    )


def sampled(
    store: "Store", slug: str, kind: "Kind", models: Sequence[str], prompts: str, temperature: float, max_new: int,
    say: Say,
) -> list[TaskItem]:  # fmt: skip
    """An item for each prompt, with one answer of each model. Prompts whose answers are equal or empty make none."""
    from posttrain.formats import load

    low, high = ANSWERS[kind]
    if not low <= len(models) <= high:
        raise UserError(
            f"a {kind} project shows {low} to {high} answers, not those of {len(models)} models",
            where=slug, remedy="--model MODEL, once for each answer; the same model may come again",
        )  # fmt: skip
    known = {item.id for item in store.items(slug)}
    rows: list[Prompt] = load(prompts, "prompts").rows
    wanted = {f"sampled-{digest([p.model_dump(mode='json')['messages'], *models])}": p for p in rows}
    todo = {id: p for id, p in wanted.items() if id not in known}
    if not todo:
        return []
    texts = [answers(m, list(todo.values()), i, temperature, max_new, say) for i, m in enumerate(models)]
    found = []
    for (id, prompt), said in zip(todo.items(), zip(*texts)):
        if all(said) and len(set(said)) == len(said):
            candidates = tuple(Candidate(text=t, model=m) for t, m in zip(said, models))
            found.append(TaskItem(id=id, prompt=prompt.messages, answers=candidates, category=prompt.category))
    if len(found) < len(todo):
        say(f"{len(todo) - len(found):,} prompts left out: an answer was empty, or two were equal")
    return found


def answers(name: str, prompts: Sequence[Prompt], seed: int, temperature: float, max_new: int, say: Say) -> list[str]:
    """One answer of a model to each prompt."""
    from posttrain.loading import load_model
    from posttrain.locate import model_folder
    from posttrain.pipeline import Runtime
    from posttrain.progress import Progress
    from posttrain.render import load_chat
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    folder = model_folder(newest(name))
    chat = load_chat(folder)
    model: Any = load_model(folder, Runtime(), train=False)
    how = Sampling(max_new=max_new, temperature=temperature, seed=seed)
    ids = [chat.prompt(p.messages) for p in prompts]
    say(f"sampling {len(ids):,} answers from {name}")
    with Progress("auto").task("sample", total=len(ids)) as tick:
        groups = asyncio.run(
            Local(model, chat).sample(ids, 1, how, on_step=lambda done, tokens: tick(done, tokens=tokens))
        )
    return [group[0].text.strip() for group in groups]


def newest(name: str) -> str:
    """runs/a/sft means the newest folder runs/a/sft-<fingerprint>; every other name stays as it is."""
    path = Path(name).expanduser()
    made = [] if path.exists() else [p.parent for p in path.parent.glob(f"{glob.escape(path.name)}-*/record.json")]
    return str(max(made, key=lambda p: p.stat().st_mtime)) if made else name


def application(db: str, workers: int) -> Any:
    """A worker's pages, over a store of its own. It allows its part of an address's failed sign-ins."""
    from posttrain.store import Store
    from posttrain.web import create_app

    return create_app(Store.open(db), sign_in_failures=max(1, 20 // workers))


def announce(store: "Store", slug: str, listener: socket.socket, say: Say) -> None:
    address, first = listen.opened(listener), store.first_admin_link()
    if first:
        say(f"first administrator (this link works once): {address}/join/{first}")
    if not listen.local(listener):
        say("others can reach this address: put a reverse proxy with TLS before it, or passwords travel bare")
    say(f"labelling {slug}: {address}/p/{slug}   (Ctrl-C ends)")
