"""The chain: every event of a project names the hash of the one before it, so none can change or vanish unseen.

The hash is chain.py's. Numbers count from 1 without gaps; whoever appends holds the lock of the project's row in
`heads`. Times never decrease.
The chain '' is that of people: who came, who was erased; by pseudonym, as everywhere in bodies.
Left out on purpose: signatures. Who can rewrite the whole database can rewrite the whole chain; what shows it is the
head hash of a snapshot, kept elsewhere (in a model's record).
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select, update

from posttrain.rows import canonical
from posttrain.store.chain import ZERO, digest_of, link
from posttrain.store.errors import Missing
from posttrain.store.prepared import Bundle, Prepared
from posttrain.store.rows import ChainReport, Event, Person
from posttrain.store.schema import events, heads, items, snapshots

PAGE = 2000


def begin(conn: Connection, project: str) -> None:
    """A new chain."""
    conn.execute(heads.insert().values(project=project, number=0, hash=ZERO, at=0.0))


_head = heads.c.project == bindparam("of")
HEAD = Prepared(select(heads.c.number, heads.c.hash, heads.c.at).where(_head).with_for_update())
COUNTERS = ("plain_items", "gold_items", "votes", "skips", "done")
MOVE = (
    update(heads)
    .where(_head)
    .values(
        number=bindparam("to"), hash=bindparam("new"), at=bindparam("when"),
        **{name: heads.c[name] + bindparam(f"more_{name}") for name in COUNTERS},
    )
)  # fmt: skip
INSERT = events.insert().values(
    project=bindparam("of"), number=bindparam("to"), kind=bindparam("what"), at=bindparam("when"),
    person=bindparam("who"), body=bindparam("says"), previous=bindparam("after"), hash=bindparam("new"),
)  # fmt: skip
APPEND = Bundle(INSERT, MOVE)


class Said(NamedTuple):
    """An event to append. adds: to the head's counters; beside: further parameters of the bundle."""

    kind: str
    person: Person
    body: dict[str, Any]
    adds: dict[str, int]
    beside: dict[str, Any] = {}


def append(
    conn: Connection, now: float, project: str, kind: str, person: Person, body: dict[str, Any], **count: int
) -> Event:
    """Appends inside the caller's transaction and adds `count` to the head's counters (votes=1, done=-1 ...)."""
    return append_all(conn, now, project, [Said(kind, person, body, count)])[0]


def append_all(conn: Connection, now: float, project: str, said: Sequence[Said], write: Bundle = APPEND) -> list[Event]:
    """One event for each, in that order, as append does. write: APPEND, or a bundle that does more besides."""
    (head,) = HEAD(conn, {"of": project})
    number, previous, at, found = head.number, head.hash, float(max(now, head.at)), []
    for one in said:
        event = link(number + 1, project, one.kind, at, one.person.id, one.body, previous)
        number, previous = event.number, event.hash
        found.append(event)
    write(conn, [_parameters(event) | _more(one.adds) | one.beside for event, one in zip(found, said)])
    return found


def _parameters(event: Event) -> dict[str, Any]:
    return {
        "of": event.project, "to": event.number, "what": event.kind, "when": event.at, "who": event.person,
        "says": canonical(event.body), "after": event.previous, "new": event.hash,
    }  # fmt: skip


def _more(count: dict[str, int]) -> dict[str, int]:
    return {f"more_{name}": count.get(name, 0) for name in COUNTERS}


def of_row(row: Row[Any]) -> Event:
    return Event.model_validate(dict(row._mapping) | {"body": json.loads(row.body)})


def get(conn: Connection, project: str, number: int) -> Event:
    return of_row(conn.execute(select(events).where(events.c.project == project, events.c.number == number)).one())


def page(conn: Connection, project: str, after: int, limit: int) -> list[Event]:
    found = select(events).where(events.c.project == project, events.c.number > after)
    return [of_row(row) for row in conn.execute(found.order_by(events.c.number).limit(limit))]


# checking


def verify(conn: Connection, project: str | None) -> ChainReport:
    """Recomputes every hash of one project, or of all, and compares heads, imported items and snapshots with them."""
    known = select(heads.c.project, heads.c.number, heads.c.hash).order_by(heads.c.project)
    rows = conn.execute(known if project is None else known.where(heads.c.project == project)).all()
    if project is not None and not rows:
        raise Missing(f"there is no project {project!r}")
    total = 0
    for head in rows:
        report = _chain(conn, head.project, head.number, head.hash)
        total += report.events
        if not report.ok:
            return report
    return ChainReport(ok=True, events=total)


def _chain(conn: Connection, project: str, number: int, head: str) -> ChainReport:
    """head, number: where the chain ought to end; events that came since are none of ours."""
    frozen = dict(
        conn.execute(select(snapshots.c.events, snapshots.c.head_hash).where(snapshots.c.project == project)).all()
    )
    previous, after = ZERO, 0
    while after < number:
        rows = conn.execute(
            select(events)
            .where(events.c.project == project, events.c.number > after, events.c.number <= number)
            .order_by(events.c.number)
            .limit(PAGE)
        ).all()
        for row in rows:
            problem = _problem(conn, row, after + 1, previous, frozen)
            if problem:
                return ChainReport(ok=False, events=after, first_bad=f"{project}:{after + 1}", problem=problem)
            previous, after = row.hash, row.number
        if not rows:
            lost = f"the chain ends here, though it once had {number} events"
            return ChainReport(ok=False, events=after, first_bad=f"{project}:{after + 1}", problem=lost)
    if previous != head:
        other = "the last hash is not the one noted at the head"
        return ChainReport(ok=False, events=after, first_bad=f"{project}:{after}", problem=other)
    return ChainReport(ok=True, events=after)


def _problem(conn: Connection, row: Row[Any], number: int, previous: str, frozen: dict[int, str]) -> str:
    """What is wrong with one link, '' when nothing is."""
    if row.number != number:
        return f"event {number} is missing"
    if row.previous != previous:
        return "it does not name the event before it"
    try:
        body = json.loads(row.body)
    except ValueError:
        return "its body is not JSON"
    if link(row.number, row.project, row.kind, row.at, row.person, body, row.previous).hash != row.hash:
        return "its hash does not fit what it says"
    if row.kind == "items" and items_digest(conn, row.project, row.number) != body["digest"]:
        return "the items it brought were changed"
    return "a snapshot knows it with another hash" if frozen.get(number, row.hash) != row.hash else ""


def items_digest(conn: Connection, project: str, event: int) -> str:
    """Of the items that an import brought, as they stand."""
    bodies = select(items.c.body).where(items.c.project == project, items.c.event == event).order_by(items.c.position)
    return digest_of(conn.scalars(bodies))
