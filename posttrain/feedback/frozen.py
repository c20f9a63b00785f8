"""A snapshot in a folder, so that what was learned can be traced to its votes without the database.

    snapshot.json  what it is: digest, project, counts, hash of the chain's last event
    items.jsonl  votes.jsonl  events.jsonl  the labelled items, the valid votes, the chain they stand in

`problems` recomputes every hash. Left out on purpose: signatures; whoever can rewrite the whole folder can rewrite the
chain, so keep the head hash elsewhere if that matters.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from posttrain.errors import UserError
from posttrain.pipeline import write_text
from posttrain.rows import R, canonical, digest, explain, read_jsonl, write_jsonl
from posttrain.store.chain import ZERO, digest_of, expected
from posttrain.store.rows import Event, ProjectSettings, Snapshot, TaskItem, Vote

FILES = ("items.jsonl", "votes.jsonl")  # without these two a folder is no snapshot


class Frozen(NamedTuple):
    """A snapshot and everything it names. settings None, events (): an export that does not have them."""

    snapshot: Snapshot
    items: list[TaskItem]
    votes: list[Vote]
    events: list[Event]
    settings: ProjectSettings | None = None

    def write(self, folder: Path) -> None:
        write_jsonl(folder / "items.jsonl", self.items)
        write_jsonl(folder / "votes.jsonl", self.votes)
        write_jsonl(folder / "events.jsonl", self.events)
        about = self.snapshot.model_dump(mode="json")
        about |= {"settings": self.settings.model_dump(mode="json")} if self.settings else {}
        write_text(folder / "snapshot.json", canonical(about) + "\n")

    def problems(self) -> list[str]:
        """What does not fit together. Empty: the chain is whole from its first event to the snapshot's head hash, and

        the items and votes that are here are exactly those that it tells of.
        """
        if not self.events:
            return ["there are no events, so the votes cannot be checked"]
        found = list(broken_links(self.events))
        last, snapshot = self.events[-1], self.snapshot
        if (last.hash, last.number) != (snapshot.head_hash, snapshot.events):
            found.append(f"the chain ends in {last.hash[:12]}, the snapshot in {snapshot.head_hash[:12]}")
        named = digest({"project": snapshot.project, "events": snapshot.events, "head": snapshot.head_hash})
        if named != snapshot.digest:
            found.append(f"the snapshot is called {snapshot.digest}, but its head makes {named}")
        return found + list(strange_votes(self.votes, self.events)) + list(strange_items(self.items, self.events))

    @property
    def people(self) -> list[str]:
        return sorted({v.person for v in self.votes})


def of_store(store: Any, digest: str) -> Frozen:
    """A snapshot of an open store, with the events up to its head."""
    snapshot, about, items, votes = store.read_snapshot(digest)
    events: list[Event] = []
    while not events or events[-1].number < snapshot.events:
        more = store.events(snapshot.project, after=events[-1].number if events else 0)
        if not more:
            break
        events += more
    return Frozen(snapshot, items, votes, [e for e in events if e.number <= snapshot.events], about.settings)


def read(path: str | Path) -> Frozen:
    """A snapshot's folder, or a file in it. UserError when it is none; events and snapshot.json may be missing."""
    folder = Path(path).expanduser()
    folder = folder.parent if folder.is_file() else folder
    paths = {name: _file(folder, name) for name in (*FILES, "events.jsonl")}
    missing = [name for name in FILES if paths[name] is None]
    if missing:
        remedy = "export a snapshot from the labelling application, or give `db` and `project`"
        raise UserError(f"this is no exported snapshot (no {', no '.join(missing)})", where=str(folder), remedy=remedy)
    items, votes = _rows(paths["items.jsonl"], TaskItem), _rows(paths["votes.jsonl"], Vote)
    _complete(items, votes, folder)
    snapshot, settings = _about(folder, items, votes)
    return Frozen(snapshot, items, votes, _rows(paths["events.jsonl"], Event), settings)


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name, or the only download of it (helpfulness-0c1d2e3f-votes.jsonl)."""
    found = [folder / name] if (folder / name).is_file() else sorted(folder.glob(f"*-{name}"))
    if len(found) > 1:
        raise UserError(f"which one is {name}? {', '.join(p.name for p in found[:4])}", where=str(folder),
                        remedy="one snapshot a folder")  # fmt: skip
    return found[0] if found else None


def _rows(path: Path | None, kind: type[R]) -> list[R]:
    return list(read_jsonl(path, kind)) if path else []


def _complete(items: list[TaskItem], votes: list[Vote], folder: Path) -> None:
    known = {item.id for item in items}
    if len(known) < len(items):
        twice = next(i.id for n, i in enumerate(items) if i.id in {x.id for x in items[:n]})
        raise UserError(f"two items have the id {twice!r}", where=str(folder / "items.jsonl"))
    lost = next((v for v in votes if v.item not in known), None)
    if lost:
        raise UserError(f"vote {lost.event} is on an item that is not here: {lost.item!r}", where=str(folder))


def _about(folder: Path, items: list[TaskItem], votes: list[Vote]) -> tuple[Snapshot, ProjectSettings | None]:
    """snapshot.json; without it a snapshot named by the digest of what is there."""
    path = folder / "snapshot.json"
    if not path.is_file():
        name = digest([[r.model_dump(mode="json") for r in rows] for rows in (items, votes)])
        last = max((v.at for v in votes), default=0.0)
        project = votes[0].project if votes else folder.name
        return Snapshot(digest=name, project=project, votes=len(votes), items=len(items), events=0, head_hash="",
                        at=last), None  # fmt: skip
    try:
        about: dict[str, Any] = _json(path)
        settings = about.pop("settings", None)
        return Snapshot.model_validate(about), ProjectSettings.model_validate(settings) if settings else None
    except ValidationError as error:
        raise UserError(explain(error), where=str(path)) from None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError("this is not a JSON object", where=str(path))
    return value


def broken_links(events: Sequence[Event]) -> Iterator[str]:
    """The first link that does not follow from the one before, if any."""
    previous, number = ZERO, 0
    for event in events:
        if (event.previous, event.number) != (previous, number + 1):
            yield f"event {event.number} does not follow event {number}"
            return
        if expected(event) != event.hash:
            yield f"event {event.number} is not what its hash says"
            return
        previous, number = event.hash, event.number


def votes_of(events: Sequence[Event]) -> list[Vote]:
    """The valid votes of a chain: those cast and not undone."""
    undone = {e.body.get("event") for e in events if e.kind == "undo"}
    facts = ("project", "person", "at")
    return [
        Vote.model_validate(e.body | {f: getattr(e, f) for f in facts} | {"event": e.number, "id": e.hash})
        for e in events
        if e.kind == "vote" and e.number not in undone
    ]


def strange_votes(votes: Sequence[Vote], events: Sequence[Event]) -> Iterator[str]:
    """The first vote that the chain does not tell of, or tells of otherwise, and whether one is missing."""
    told = {v.id: v for v in votes_of(events)}
    for vote in votes:
        if told.get(vote.id) != vote:
            yield f"vote {vote.event} is {'not what' if vote.id in told else 'not in what'} the chain says"
            return
    if len(votes) != len(told):
        yield f"{len(votes)} votes are here, the chain tells of {len(told)}"


def strange_items(items: Sequence[TaskItem], events: Sequence[Event]) -> Iterator[str]:
    """The first import whose items are not what its event says; items stand in the order of their imports."""
    start = 0
    for event in (e for e in events if e.kind == "items"):
        own = items[start : start + event.body["count"]]
        whole = digest_of(canonical(item.model_dump(mode="json", exclude_defaults=True)) for item in own)
        if len(own) != event.body["count"] or whole != event.body["digest"]:
            yield f"the items of event {event.number} are not what the chain says"
            return
        start += len(own)
    if start != len(items):
        yield f"{len(items)} items are here, the chain tells of {start}"
