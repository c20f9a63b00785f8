"""Votes, as many at a time as came together: one transaction, one event for each, and the counters move with them.

What a statement can do for one vote it does for all, so a vote costs less the more come at once. Locks are taken in
one order (tasks, items, members, duels, the head of the chain last), each kind sorted, and only for what is valid.
Sent twice, the same answer is one event; another answer to the same task is a Conflict. An answer that comes after its
lease ran out is taken as long as the item still has room: work that was done is not thrown away.
A refusal concerns its vote alone. Left out on purpose: skips and undoing (work.py), which are few.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, select, update

from posttrain.errors import UserError
from posttrain.rows import digest
from posttrain.store import events, labels
from posttrain.store.assign import COUNT, ITEM_COLUMNS, Tally, item_of
from posttrain.store.database import Database
from posttrain.store.errors import Conflict, Missing
from posttrain.store.events import INSERT, MOVE
from posttrain.store.prepared import Bundle, Prepared
from posttrain.store.projects import STANDING_COLUMNS, WORKERS, Standing, admitted
from posttrain.store.rows import Answer, Event, Person, TaskItem
from posttrain.store.schema import duels, heads, items, members, projects, tasks

SOME: Any = bindparam("some", expanding=True)
TASKS = Prepared(  # each with its item, both locked, and its person's standing; Tally and admitted read such rows
    select(
        tasks.c.id.label("task"), tasks.c.project, tasks.c.person, tasks.c.state, tasks.c.presented, tasks.c.drawn,
        tasks.c.event, tasks.c.answer, *ITEM_COLUMNS, *STANDING_COLUMNS,
    )
    .select_from(tasks)
    .join(items, items.c.number == tasks.c.item)
    .join(projects, projects.c.slug == tasks.c.project)
    .join(heads, heads.c.project == tasks.c.project)
    .outerjoin(members, and_(members.c.project == tasks.c.project, members.c.person == tasks.c.person))
    .where(tasks.c.id.in_(SOME))
    .order_by(items.c.number, tasks.c.id)
    .with_for_update(of=(tasks, items))
)  # fmt: skip
LABELS = Prepared(select(tasks.c.item, tasks.c.label).where(tasks.c.item.in_(SOME), tasks.c.state == "voted"))
TALLY = (
    update(members)
    .where(members.c.project == bindparam("of"), members.c.person == bindparam("who"))
    .values(votes=members.c.votes + bindparam("own_votes"), skips=members.c.skips + bindparam("own_skips"))
)
DUEL = Prepared(
    update(duels)
    .where(duels.c.project == bindparam("of"), duels.c.a == bindparam("one"), duels.c.b == bindparam("other"))
    .values(a_wins=duels.c.a_wins + bindparam("more_a"), b_wins=duels.c.b_wins + bindparam("more_b"))
)
VOTED = (
    update(tasks)
    .where(tasks.c.id == bindparam("one"))
    .values(state="voted", event=bindparam("to"), answer=bindparam("said"), label=bindparam("as"))
)
COUNT_AND_TALLY, APPEND_AND_VOTED = Bundle(COUNT, TALLY), Bundle(INSERT, MOVE, VOTED)


class Ballot(NamedTuple):
    """What one person answers to one task."""

    person: Person
    task: str
    answer: Answer


class _Cast(NamedTuple):
    """A ballot that counts. leases, done: what it changes of its item's leases and of the finished items."""

    ballot: Ballot
    task: Any
    given: str
    label: str
    body: dict[str, Any]
    leases: int
    done: int


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
        rows = TASKS(conn, {"some": sorted({b.task for b in ballots})})
        self.tasks = {row.task: row for row in rows}
        self.items = {row.number: Tally(row) for row in rows}
        self.labels: dict[int, list[str]] = defaultdict(list)
        if voted := sorted(number for number, item in self.items.items() if item.votes):
            for number, label in LABELS(conn, {"some": voted}):
                self.labels[number].append(label)
        self.new: dict[str, _Cast] = {}  # by task

    def outcomes(self) -> list[Event | BaseException]:
        refused = {n: error for n, b in enumerate(self.ballots) if (error := self._refusal(b))}
        made = self._write()
        for name in {b.task for n, b in enumerate(self.ballots) if n not in refused} - made.keys():  # sent twice
            made[name] = events.get(self.conn, self.tasks[name].project, self.tasks[name].event)
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
        here = admitted(task, ballot.person, task.project, *WORKERS)
        given = digest(ballot.answer.model_dump(mode="json", exclude={"seconds"}))
        if self._known(task, given):
            return
        here.must_be_open()
        item = self.items[task.number]
        if task.state == "lapsed" and not item.open:
            raise late()
        body = _body(here, ballot.answer, task)
        label = labels.label(here.settings.kind, body)
        said = [*self.labels[task.number], label]
        need = labels.wanted(here.settings.kind, said, here.settings.labels_per_item, here.settings.max_labels)
        leases, done = -int(task.state == "leased"), item.done
        item.add(votes=1, leases=leases, wanted=need)
        self.labels[task.number] = said
        self.new[task.task] = _Cast(ballot, task, given, label, body, leases, item.done - done)

    def _known(self, task: Any, given: str) -> bool:
        """Is this answer there already? Conflict when another one is."""
        earlier = self.new.get(task.task)
        state, answer = ("voted", earlier.given) if earlier else (task.state, task.answer)
        if state == "voted" and answer == given:
            return True
        if state in ("voted", "skipped"):
            raise answered(state)
        return False

    # ---- writing

    def _write(self) -> dict[str, Event]:
        """Everything that was noted; the event of every task that is newly voted on."""
        if not self.new:
            return {}
        new = sorted(self.new.values(), key=lambda c: (c.ballot.person.id, c.task.project))
        COUNT_AND_TALLY(self.conn, [self._counters(one) for one in new])
        self._duel()
        made: dict[str, Event] = {}
        for slug in sorted({one.task.project for one in new}):
            here = {name: one for name, one in self.new.items() if one.task.project == slug}
            said = [_said(name, one) for name, one in here.items()]
            made |= dict(zip(here, events.append_all(self.conn, self.now, slug, said, APPEND_AND_VOTED)))
        return made

    def _counters(self, one: _Cast) -> dict[str, Any]:
        return {
            "one": one.task.number, "more_votes": 1, "more_leases": one.leases,
            "need": self.items[one.task.number].wanted, "of": one.task.project, "who": one.ballot.person.id,
            "own_votes": 1, "own_skips": 0,
        }  # fmt: skip

    def _duel(self) -> None:
        won: dict[tuple[str, str, str], tuple[float, float]] = {}
        for new in self.new.values():
            slug = new.task.project
            for (a, b), (a_wins, b_wins) in counted(item_of(new.task.body), new.body).items():
                old = won.get((slug, a, b), (0.0, 0.0))
                won[slug, a, b] = old[0] + a_wins, old[1] + b_wins
        if won:
            duel(self.conn, won)


def _said(task: str, one: _Cast) -> events.Said:
    beside = {"one": task, "said": one.given, "as": one.label}
    return events.Said("vote", one.ballot.person, one.body, {"votes": 1, "done": one.done}, beside)


def answered(state: str) -> Conflict:
    done = "answered otherwise" if state == "voted" else "skipped"
    return Conflict(f"this task was already {done}", remedy="undo that first")


def late() -> Conflict:
    return Conflict("the time for this task ran out and others have finished it", remedy="take the next one")


def _body(here: Standing, answer: Answer, task: Any) -> dict[str, Any]:
    """The body of the vote's event. UserError when the answer does not fit the task."""
    presented = [int(n) for n in task.presented.split(",") if n]
    labels.check(here.settings.kind, item_of(task.body), answer, presented)
    body = labels.to_item_order(answer, presented) | {
        "item": task.id, "kind": here.settings.kind, "presented": presented, "drawn": task.drawn,
    }  # fmt: skip
    return body | {"gold": True} if task.gold else body


def duel(conn: Connection, won: dict[tuple[str, str, str], tuple[float, float]]) -> None:
    """Adds wins between models: (project, model, model) -> wins of each."""
    rows = [{"of": s, "one": a, "other": b, "more_a": x, "more_b": y} for (s, a, b), (x, y) in sorted(won.items())]
    DUEL.change(conn, rows)


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
