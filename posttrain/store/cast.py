"""Votes, as many at a time as came together: one transaction, one event for each, and the counters move with them.

What a statement can do for one vote it does for all, so a vote costs less the more come at once. Locks are taken in
one order (tasks, items, members, duels, the head of the chain last), each kind sorted, and only for what is valid.
Sent twice, the same answer is one event; another answer to the same task is a Conflict. An answer that comes after its
lease ran out is taken as long as the item still has room: work that was done is not thrown away.
A refusal concerns its vote alone. Left out on purpose: skips and undoing (work.py), which are few.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select, update

from posttrain.errors import UserError
from posttrain.rows import digest
from posttrain.store import events, labels
from posttrain.store.assign import COUNT, Tally, item_of
from posttrain.store.database import Database
from posttrain.store.errors import Conflict, Missing
from posttrain.store.projects import WORKERS, Standing, standings
from posttrain.store.rows import Answer, Event, Person, TaskItem
from posttrain.store.schema import duels, items, members, tasks

SOME: Any = bindparam("some", expanding=True)
TASKS = select(tasks).where(tasks.c.id.in_(SOME)).order_by(tasks.c.id).with_for_update()
ITEMS = select(items).where(items.c.number.in_(SOME)).order_by(items.c.number).with_for_update()
LABELS = select(tasks.c.item, tasks.c.label).where(tasks.c.item.in_(SOME), tasks.c.state == "voted")
TALLY = (
    update(members)
    .where(members.c.project == bindparam("of"), members.c.person == bindparam("who"))
    .values(votes=members.c.votes + bindparam("more_votes"), skips=members.c.skips + bindparam("more_skips"))
)
DUEL = (
    update(duels)
    .where(duels.c.project == bindparam("of"), duels.c.a == bindparam("one"), duels.c.b == bindparam("other"))
    .values(a_wins=duels.c.a_wins + bindparam("more_a"), b_wins=duels.c.b_wins + bindparam("more_b"))
)
VOTED = (
    update(tasks)
    .where(tasks.c.id == bindparam("one"))
    .values(state="voted", event=bindparam("by"), answer=bindparam("said"), label=bindparam("as"))
)


class Ballot(NamedTuple):
    """What one person answers to one task."""

    person: Person
    task: str
    answer: Answer


class _Cast(NamedTuple):
    """A ballot that counts."""

    ballot: Ballot
    slug: str
    given: str
    label: str
    body: dict[str, Any]


def cast(db: Database, ballots: Sequence[Ballot]) -> list[Event | BaseException]:
    """The event of each ballot, on the disk when this returns, or the refusal that concerns it."""
    try:
        return db.write(lambda conn: _Count(conn, db.clock(), ballots).outcomes())
    except UserError:
        raise
    except Exception as error:  # one of them may be to blame: each for itself
        return [one for ballot in ballots for one in cast(db, [ballot])] if len(ballots) > 1 else [error]


class _Count:
    """The votes of one transaction: what was there, what is new, what is written."""

    def __init__(self, conn: Connection, now: float, ballots: Sequence[Ballot]):
        self.conn, self.now, self.ballots = conn, now, ballots
        self.tasks = {row.id: row for row in conn.execute(TASKS, {"some": sorted({b.task for b in ballots})})}
        self.standings = standings(conn, [(b.person, t.project) for b, t in self._own()])
        numbers = sorted({t.item for _, t in self._own()})
        self.items = {row.number: Tally(row) for row in conn.execute(ITEMS, {"some": numbers})}
        self.labels: dict[int, list[str]] = defaultdict(list)
        for number, label in conn.execute(LABELS, {"some": numbers}):
            self.labels[number].append(label)
        self.new: dict[str, _Cast] = {}  # by task

    def _own(self) -> Iterable[tuple[Ballot, Row[Any]]]:
        """Ballots with their tasks, which are the person's own."""
        for ballot in self.ballots:
            task = self.tasks.get(ballot.task)
            if task is not None and task.person == ballot.person.id:
                yield ballot, task

    def outcomes(self) -> list[Event | BaseException]:
        refused = {n: error for n, b in enumerate(self.ballots) if (error := self._refusal(b))}
        made = self._write()
        return [refused.get(n) or made[b.task] for n, b in enumerate(self.ballots)]

    def _refusal(self, ballot: Ballot) -> UserError | None:
        try:
            self._take(ballot)
        except UserError as error:
            return error
        return None

    def _take(self, ballot: Ballot) -> None:
        """Notes the vote; UserError, and nothing noted, when it cannot count."""
        task = self.tasks.get(ballot.task)
        if task is None or task.person != ballot.person.id:
            raise Missing("there is no such task", remedy="take the next one")
        here = self.standings(ballot.person, task.project, *WORKERS)
        given = digest(ballot.answer.model_dump(mode="json", exclude={"seconds"}))
        if self._known(task, given):
            return
        here.must_be_open()
        item = self.items[task.item]
        if task.state == "lapsed" and not item.open:
            raise late()
        body = _body(here, ballot.answer, task, item.row)
        label = labels.label(here.settings.kind, body)
        said = [*self.labels[task.item], label]
        need = labels.wanted(here.settings.kind, said, here.settings.labels_per_item, here.settings.max_labels)
        item.add(votes=1, leases=-int(task.state == "leased"), wanted=need)
        self.labels[task.item] = said
        self.new[task.id] = _Cast(ballot, here.slug, given, label, body)

    def _known(self, task: Row[Any], given: str) -> bool:
        """Is this answer there already? Conflict when another one is."""
        earlier = self.new.get(task.id)
        state, answer = ("voted", earlier.given) if earlier else (task.state, task.answer)
        if state == "voted" and answer == given:
            return True
        if state in ("voted", "skipped"):
            raise answered(state)
        return False

    # ---- writing

    def _write(self) -> dict[str, Event]:
        """Everything that was noted; the event of every task that is voted on."""
        made = {}
        if self.new:
            changed = sorted((i for i in self.items.values() if i.votes != i.row.votes), key=lambda i: i.row.number)
            self.conn.execute(COUNT, [i.parameters() for i in changed])
            mine = sorted((c.ballot.person.id, c.slug) for c in self.new.values())
            self.conn.execute(TALLY, [{"of": s, "who": p, "more_votes": 1, "more_skips": 0} for p, s in mine])
            self._duel()
            made = self._append()
            rows = [{"one": t, "by": made[t].number, "said": c.given, "as": c.label} for t, c in self.new.items()]
            self.conn.execute(VOTED, rows)
        old = {b.task: t for b, t in self._own() if b.task not in made and t.event is not None}
        return made | {name: events.get(self.conn, t.project, t.event) for name, t in old.items()}

    def _duel(self) -> None:
        won: dict[tuple[str, str, str], tuple[float, float]] = {}
        for name, new in self.new.items():
            item = item_of(self.items[self.tasks[name].item].row.body)
            for (a, b), (a_wins, b_wins) in counted(item, new.body).items():
                old = won.get((new.slug, a, b), (0.0, 0.0))
                won[new.slug, a, b] = old[0] + a_wins, old[1] + b_wins
        if won:
            duel(self.conn, won)

    def _append(self) -> dict[str, Event]:
        made: dict[str, Event] = {}
        for slug in sorted({c.slug for c in self.new.values()}):
            here = {t: c for t, c in self.new.items() if c.slug == slug}
            said = [("vote", c.ballot.person, c.body) for c in here.values()]
            done = sum(i.done for i in self.items.values() if i.row.project == slug)
            found = events.append_all(self.conn, self.now, slug, said, votes=len(said), done=done)
            made |= dict(zip(here, found))
        return made


def answered(state: str) -> Conflict:
    done = "answered otherwise" if state == "voted" else "skipped"
    return Conflict(f"this task was already {done}", remedy="undo that first")


def late() -> Conflict:
    return Conflict("the time for this task ran out and others have finished it", remedy="take the next one")


def _body(here: Standing, answer: Answer, task: Row[Any], item: Row[Any]) -> dict[str, Any]:
    """The body of the vote's event. UserError when the answer does not fit the task."""
    presented = [int(n) for n in task.presented.split(",") if n]
    labels.check(here.settings.kind, item_of(item.body), answer, presented)
    body = labels.to_item_order(answer, presented) | {
        "item": item.id, "kind": here.settings.kind, "presented": presented, "drawn": task.drawn,
    }  # fmt: skip
    return body | {"gold": True} if item.gold else body


def duel(conn: Connection, won: dict[tuple[str, str, str], tuple[float, float]]) -> None:
    """Adds wins between models: (project, model, model) -> wins of each."""
    rows = [{"of": s, "one": a, "other": b, "more_a": x, "more_b": y} for (s, a, b), (x, y) in sorted(won.items())]
    conn.execute(DUEL, rows)


def counted(item: TaskItem, body: dict[str, Any]) -> dict[tuple[str, str], tuple[float, float]]:
    """What a vote adds to `duels`: nothing where it compares no models, or is on gold."""
    return wins(item, body) if body["kind"] in ("pair", "ranking") and item.gold is None else {}


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
