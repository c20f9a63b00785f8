"""A vote, a skip, an undo: each is one transaction with one event, and the counters move with it.

Sent twice, the same answer is one event; another answer to the same task is a Conflict. An answer that comes after its
lease ran out is taken as long as the item still has room: work that was done is not thrown away.
Left out on purpose: changing a vote. It is undone and cast again, and the chain shows both.
"""

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from posttrain.errors import UserError
from posttrain.rows import digest
from posttrain.store import events, labels
from posttrain.store.assign import ITEM, count
from posttrain.store.database import Database
from posttrain.store.errors import Conflict, Missing
from posttrain.store.projects import WORKERS, Standing, standing
from posttrain.store.rows import Answer, Event, Person, ProjectSettings, TaskItem, Vote
from posttrain.store.schema import duels, members, tasks
from posttrain.store.schema import events as chain

TASK = select(tasks).where(tasks.c.id == bindparam("one")).with_for_update()
TALLY = (
    update(members)
    .where(members.c.project == bindparam("of"), members.c.person == bindparam("who"))
    .values(votes=members.c.votes + bindparam("more_votes"), skips=members.c.skips + bindparam("more_skips"))
)


def submit(db: Database, person: Person, task_id: str, answer: Answer) -> Event:
    given = digest(answer.model_dump(mode="json", exclude={"seconds"}))

    def work(conn: Connection) -> Event:
        task, here = _task(conn, person, task_id)
        if task.state == "voted" and task.answer == given:
            return events.get(conn, task.project, task.event)
        item = _ready(conn, here, task)
        read = TaskItem.model_validate_json(item.body)
        presented = _numbers(task.presented)
        labels.check(here.settings.kind, read, answer, presented)
        body = labels.to_item_order(answer, presented) | {
            "item": item.id, "kind": here.settings.kind, "presented": presented, "drawn": task.drawn,
        }  # fmt: skip
        if item.gold:
            body["gold"] = True
        label = labels.label(here.settings.kind, body)
        held = -1 if task.state == "leased" else 0
        need = _wanted(conn, here.settings, item, [label])
        done = count(conn, item, votes=1, leases=held, wanted=need)
        _tally(conn, here, person, votes=1)
        _duel(conn, here, read, body, 1)
        event = events.append(conn, db.clock(), here.slug, "vote", person, body, votes=1, done=done)
        _becomes(conn, task, state="voted", event=event.number, answer=given, label=label)
        return event

    return db.write(work)


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
    need = _wanted(conn, here.settings, item, [])
    done = count(conn, item, votes=-int(voted), leases=1, wanted=need)
    _tally(conn, here, person, votes=-int(voted), skips=-int(not voted))
    if voted:
        _duel(conn, here, TaskItem.model_validate_json(item.body), old, -1)
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
        done = "answered otherwise" if task.state == "voted" else "skipped"
        raise Conflict(f"this task was already {done}", remedy="undo that first")
    here.must_be_open()
    item = _item(conn, task)
    if task.state == "lapsed" and not item.open:
        raise Conflict("the time for this task ran out and others have finished it", remedy="take the next one")
    return item


def _item(conn: Connection, task: Row[Any]) -> Row[Any]:
    return conn.execute(ITEM, {"one": task.item}).one()


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def _becomes(conn: Connection, task: Row[Any], **fields: Any) -> None:
    conn.execute(update(tasks).where(tasks.c.id == task.id).values(**fields))


def _wanted(conn: Connection, settings: ProjectSettings, item: Row[Any], new: list[str]) -> int:
    """How many labels the item needs once `new` are there."""
    if settings.max_labels is None:
        return settings.labels_per_item
    old = conn.scalars(select(tasks.c.label).where(tasks.c.item == item.number, tasks.c.state == "voted")).all()
    return labels.wanted(settings.kind, [*map(str, old), *new], settings.labels_per_item, settings.max_labels)


def _tally(conn: Connection, here: Standing, person: Person, *, votes: int = 0, skips: int = 0) -> None:
    conn.execute(TALLY, {"of": here.slug, "who": person.id, "more_votes": votes, "more_skips": skips})


def _duel(conn: Connection, here: Standing, item: TaskItem, body: dict[str, Any], sign: int) -> None:
    """Adds a vote's wins between models to `duels`, or takes them off again."""
    if here.settings.kind not in ("pair", "ranking") or item.gold is not None:
        return
    for (a, b), (a_wins, b_wins) in sorted(wins(item, body).items()):
        met = and_(duels.c.project == here.slug, duels.c.a == a, duels.c.b == b)
        conn.execute(
            update(duels)
            .where(met)
            .values(a_wins=duels.c.a_wins + sign * a_wins, b_wins=duels.c.b_wins + sign * b_wins)
        )


def wins(item: TaskItem, body: dict[str, Any]) -> dict[tuple[str, str], tuple[float, float]]:
    """(model, model) in sorted order -> wins of each; a tie, also of two bad answers, is half a win for both."""
    ranks: Sequence[int] = body.get("ranks") or {"first": (0, 1), "second": (1, 0)}.get(body.get("choice", ""), (0, 0))
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for i, j in combinations(range(len(item.answers)), 2):
        a, b = item.answers[i].model, item.answers[j].model
        if not a or not b or a == b:
            continue
        score = 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j])
        key, score = ((a, b), score) if a < b else ((b, a), 1 - score)
        old = found.get(key, (0.0, 0.0))
        found[key] = old[0] + score, old[1] + 1 - score
    return found


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


def history(conn: Connection, person: Person, slug: str, limit: int, before: int | None) -> list[Vote]:
    """The person's own valid votes, newest first."""
    standing(conn, person, slug)
    query = (
        select(chain)
        .join(tasks, and_(tasks.c.project == chain.c.project, tasks.c.event == chain.c.number))
        .where(tasks.c.project == slug, tasks.c.person == person.id, tasks.c.state == "voted")
        .order_by(tasks.c.event.desc())
        .limit(limit)
    )
    rows = conn.execute(query if before is None else query.where(tasks.c.event < before))
    return [vote_of(events.of_row(row)) for row in rows]
