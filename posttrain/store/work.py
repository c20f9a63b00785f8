"""A skip, an undo: each is one transaction with one event, and the counters move with it. Votes as they are read.

Left out on purpose: casting votes (cast.py), and changing one. It is undone and cast again, and the chain shows both.
"""

import json
from collections import Counter
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from posttrain.errors import UserError
from posttrain.rows import digest
from posttrain.store import events, labels
from posttrain.store.assign import ITEM, count, item_of
from posttrain.store.cast import TALLY, answered, counted, duel, late
from posttrain.store.database import Database
from posttrain.store.errors import Conflict, Missing
from posttrain.store.projects import WORKERS, Standing, standing
from posttrain.store.rows import Event, Person, ProjectSettings, Vote
from posttrain.store.schema import events as chain
from posttrain.store.schema import tasks

TASK = select(tasks).where(tasks.c.id == bindparam("one")).with_for_update()


def skip(db: Database, person: Person, task_id: str, reason: str) -> Event:
    if len(reason) > 2000:
        raise UserError("expected at most 2000 characters", where="reason")
    given = digest(["skip", reason])

    def work(conn: Connection) -> Event:
        task, here = _task(conn, person, task_id)
        if task.state == "skipped" and task.answer == given:
            return events.get(conn, task.project, task.event)
        item = _ready(conn, here, task)
        count(conn, item, leases=-1 if task.state == "leased" else 0)
        _tally(conn, here, person, skips=1)
        body = {"item": item.id, "reason": reason}
        event = events.append(conn, db.clock(), here.slug, "skip", person, body, skips=1)
        _becomes(conn, task, state="skipped", event=event.number, answer=given, label=None)
        return event

    return db.write(work)


def undo(db: Database, person: Person, slug: str, number: int | None) -> Event | None:
    """The task comes back first, in the order of answers that it had. None: nothing to undo."""

    def work(conn: Connection) -> Event | None:
        here = standing(conn, person, slug, *WORKERS)
        here.must_be_open()
        mine = and_(tasks.c.project == slug, tasks.c.person == person.id, tasks.c.state.in_(("voted", "skipped")))
        which = mine if number is None else and_(mine, tasks.c.event == number)
        task = conn.execute(
            select(tasks).where(which).order_by(tasks.c.event.desc()).limit(1).with_for_update()
        ).one_or_none()
        if task is None and number is not None:
            raise Missing(f"you have no vote or skip number {number} to undo")
        return None if task is None else _undo(conn, db.clock(), here, person, task)

    return db.write(work, again=False)


def _undo(conn: Connection, now: float, here: Standing, person: Person, task: Row[Any]) -> Event:
    item = _item(conn, task)
    voted, body = task.state == "voted", {"event": task.event, "item": item.id}
    if not voted and not item.open:
        raise Conflict("others have taken what you skipped", remedy="go on with the next one")
    leased = and_(tasks.c.project == here.slug, tasks.c.person == person.id, tasks.c.state == "leased")
    first = conn.scalar(select(func.min(tasks.c.turn)).where(leased))
    turn = (here.turns if first is None else first) - 1
    old = events.get(conn, here.slug, task.event).body
    _becomes(
        conn, task, state="leased", event=None, answer=None, label=None, turn=turn,
        lease_until=now + here.settings.lease_seconds,
    )  # fmt: skip
    need = _wanted(conn, here.settings, item)
    done = count(conn, item, votes=-int(voted), leases=1, wanted=need)
    _tally(conn, here, person, votes=-int(voted), skips=-int(not voted))
    if voted and (won := counted(item_of(item.body), old)):
        duel(conn, {(here.slug, *models): (-a, -b) for models, (a, b) in won.items()})
    return events.append(
        conn, now, here.slug, "undo", person, body, votes=-int(voted), skips=-int(not voted), done=done
    )


# ---- parts -----------------------------------------------------------------------------------------------------------


def _task(conn: Connection, person: Person, task_id: str) -> tuple[Row[Any], Standing]:
    """The person's own task, locked; anybody else's is Missing."""
    task = conn.execute(TASK, {"one": task_id}).one_or_none()
    if task is None or task.person != person.id:
        raise Missing("there is no such task", remedy="take the next one")
    return task, standing(conn, person, task.project, *WORKERS)


def _ready(conn: Connection, here: Standing, task: Row[Any]) -> Row[Any]:
    """The item of a task that can still be answered, locked."""
    if task.state in ("voted", "skipped"):
        raise answered(task.state)
    here.must_be_open()
    item = _item(conn, task)
    if task.state == "lapsed" and not item.open:
        raise late()
    return item


def _item(conn: Connection, task: Row[Any]) -> Row[Any]:
    return conn.execute(ITEM, {"one": task.item}).one()


def _becomes(conn: Connection, task: Row[Any], **fields: Any) -> None:
    conn.execute(update(tasks).where(tasks.c.id == task.id).values(**fields))


def _wanted(conn: Connection, settings: ProjectSettings, item: Row[Any]) -> int:
    """How many labels the item needs, as the votes stand."""
    old = conn.scalars(select(tasks.c.label).where(tasks.c.item == item.number, tasks.c.state == "voted")).all()
    return labels.wanted(settings.kind, list(map(str, old)), settings.labels_per_item, settings.max_labels)


def _tally(conn: Connection, here: Standing, person: Person, *, votes: int = 0, skips: int = 0) -> None:
    conn.execute(TALLY, {"of": here.slug, "who": person.id, "own_votes": votes, "own_skips": skips})


# ---- reading votes ---------------------------------------------------------------------------------------------------


def vote_of(event: Event, undone: bool = False) -> Vote:
    return Vote.model_validate(
        event.body
        | {"event": event.number, "id": event.hash, "project": event.project, "person": event.person, "at": event.at,
           "undone": undone}
    )  # fmt: skip


def votes(conn: Connection, slug: str, upto: int | None = None, include_undone: bool = False) -> list[Vote]:
    """All votes in the order they were cast, up to event `upto`."""
    query = select(chain).where(chain.c.project == slug, chain.c.kind.in_(("vote", "undo"))).order_by(chain.c.number)
    rows = conn.execute(query if upto is None else query.where(chain.c.number <= upto)).all()
    undone = {json.loads(r.body)["event"] for r in rows if r.kind == "undo"}
    return [
        vote_of(events.of_row(r), r.number in undone)
        for r in rows
        if r.kind == "vote" and (include_undone or r.number not in undone)
    ]


def skip_reasons(conn: Connection, slug: str) -> list[tuple[str, int]]:
    """Why people skipped, the most frequent reason first; what was undone is not counted."""
    query = select(chain).where(chain.c.project == slug, chain.c.kind.in_(("skip", "undo")))
    rows = [(r.kind, r.number, json.loads(r.body)) for r in conn.execute(query.order_by(chain.c.number))]
    undone = {body["event"] for kind, _, body in rows if kind == "undo"}
    return Counter(
        body["reason"] or "no reason given" for kind, n, body in rows if kind == "skip" and n not in undone
    ).most_common()


def history(conn: Connection, person: Person, slug: str, limit: int, before: int | None) -> list[Vote]:
    """The person's own valid votes, newest first."""
    standing(conn, person, slug)
    mine = and_(tasks.c.project == slug, tasks.c.person == person.id, tasks.c.state == "voted")
    newest = select(tasks.c.event).where(mine).order_by(tasks.c.event.desc()).limit(limit)
    numbers = conn.scalars(newest if before is None else newest.where(tasks.c.event < before)).all()
    # asked for by number, not by a join: PostgreSQL plans that badly while it knows little about a young table
    found = select(chain).where(chain.c.project == slug, chain.c.number.in_(numbers)).order_by(chain.c.number.desc())
    return [vote_of(events.of_row(row)) for row in conn.execute(found)]
