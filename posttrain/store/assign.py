"""Which item a person gets next: leases, gold, and the three orders. Short queries over indexes, no lists of items.

A task is one item shown to one person, at most once (a unique constraint holds it). While its lease runs, its place
among the item's wanted labels is taken; when the lease has run out, the place is free and the person may get the same
item again. Finding candidates only reads; taking one is a transaction of a few rows that checks again.

Orders. sequence: as imported; `cursor` remembers per person how far there is nothing left to do. random: the first
open item after a seeded random place. active: the pair of models about which a vote says most under Bradley-Terry,
p (1 - p) var(s_i - s_j), and among its items those with the fewest votes (coverage). gold: items whose answer is known.
What comes is drawn from seed, person and turn alone. Statements are built once: building costs more than running.
"""

import json
import secrets
import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from posttrain.store.database import Database
from posttrain.store.leaks import leak
from posttrain.store.projects import WORKERS, Standing, chance, standing
from posttrain.store.rows import Drawn, Person, Task, TaskItem
from posttrain.store.schema import authors, duels, items, members, tasks

CANDIDATES = 12  # looked at when one is taken: as many people may be quicker at once
TRIES = 50
PAIRINGS = 8  # most informative pairings looked into before any open item will do
REFIT = 20  # votes after which strengths are estimated anew
SWEEP = 200  # leases taken back at a time
SWEEP_SECONDS = 5.0  # between looks for leases that ran out, while there is something to give anyway


class Choice(NamedTuple):
    """Items that may be given now, best first in the order of `drawn`; sweep: leases have run out, look again."""

    numbers: Sequence[int] = ()
    drawn: Drawn = "sequence"
    sweep: bool = False


class Memory:
    """What this process remembers and could look up again.

    rankings: each project's open pairings, the most informative first, estimated anew every REFIT votes.
    swept: when each project was last searched for leases that ran out.
    """

    def __init__(self) -> None:
        self._rankings: dict[str, tuple[int, list[str]]] = {}
        self._swept: dict[str, float] = {}
        self._lock = threading.Lock()

    def ranking(self, conn: Connection, here: Standing) -> list[str]:
        votes, found = self._rankings.get(here.slug, (-REFIT, []))
        if abs(here.everybody - votes) >= REFIT or not found:
            with self._lock:
                found = _informative(conn, here.slug)
                self._rankings[here.slug] = here.everybody, found
        return found

    def sweep_due(self, slug: str, now: float) -> bool:
        if now - self._swept.get(slug, -SWEEP_SECONDS) < SWEEP_SECONDS:
            return False
        self._swept[slug] = now
        return True


class Taken(NamedTuple):
    """A task as one person holds it, with the item's text."""

    id: str
    presented: str
    lease_until: float
    body: str


HELD = (
    select(tasks.c.id, tasks.c.presented, tasks.c.lease_until, items.c.body)
    .join(items, items.c.number == tasks.c.item)
    .where(
        tasks.c.project == bindparam("of"), tasks.c.person == bindparam("who"), tasks.c.state == "leased",
        tasks.c.lease_until > bindparam("now"),
    )
    .order_by(tasks.c.turn)
    .limit(2)
)  # fmt: skip
_out = and_(tasks.c.project == bindparam("of"), tasks.c.state == "leased", tasks.c.lease_until <= bindparam("now"))
RAN_OUT = select(tasks.c.id).where(_out).limit(1)
ITEM = select(items).where(items.c.number == bindparam("one")).with_for_update()


def give(db: Database, memory: Memory, person: Person, slug: str, ahead: int) -> Task | None:
    """The person's current task (ahead 0) or the one after it (1), taken if need be; None: nothing left."""
    for _ in range(TRIES):
        held, choice, here = db.read(lambda conn: _look(conn, db.clock(), memory, person, slug, ahead))
        if len(held) > ahead:
            return _task(held[ahead], here)
        if choice.sweep:
            db.write(lambda conn: sweep(conn, db.clock(), slug), durable=False)
        elif not choice.numbers:
            return None
        elif (taken := _take(db, here, person, choice)) and len(held) == ahead:
            return _task(taken, here)
    return None


def _take(db: Database, here: Standing, person: Person, choice: Choice) -> Taken | None:
    try:
        return db.write(lambda conn: _lease(conn, db.clock(), here, person, choice), durable=False)
    except IntegrityError:  # the same person, at the same moment, from another window
        return None


def _look(
    conn: Connection, now: float, memory: Memory, person: Person, slug: str, ahead: int
) -> tuple[list[Taken], Choice, Standing]:
    here = standing(conn, person, slug, *WORKERS)
    here.must_be_open()
    held = [Taken(*row) for row in conn.execute(HELD, {"of": slug, "who": person.id, "now": now})]
    cap = here.settings.per_person_cap
    if len(held) > ahead or (cap is not None and here.votes + len(held) >= cap):
        return held, Choice(), here
    if memory.sweep_due(slug, now) and _ran_out(conn, slug, now):
        return held, Choice(sweep=True), here
    choice = _choose(conn, memory, here, person)
    if not choice.numbers and _ran_out(conn, slug, now):
        return held, Choice(sweep=True), here
    return held, choice, here


def _ran_out(conn: Connection, slug: str, now: float) -> bool:
    return conn.execute(RAN_OUT, {"of": slug, "now": now}).first() is not None


# ---- choosing --------------------------------------------------------------------------------------------------------

MINE = (  # items that the person has had, and may not get again
    select(tasks.c.id)
    .where(tasks.c.item == items.c.number, tasks.c.person == bindparam("who"), tasks.c.state != "lapsed")
    .exists()
)
OWN = select(authors.c.item).where(authors.c.item == items.c.number, authors.c.person == bindparam("who")).exists()
ORDER: dict[Drawn, tuple[Any, ...]] = {
    "gold": (items.c.position,), "sequence": (items.c.position,), "random": (items.c.shuffle,),
    "active": (items.c.votes, items.c.shuffle),
}  # fmt: skip


def _search(drawn: Drawn, *where: Any) -> Any:
    here = and_(items.c.project == bindparam("of"), items.c.gold == (drawn == "gold"), items.c.open, *where)
    return select(items.c.number).where(here, ~MINE, ~OWN).order_by(*ORDER[drawn]).limit(CANDIDATES)


SEARCH: dict[Drawn, Any] = {
    "gold": _search("gold"),
    "sequence": _search("sequence", items.c.position >= bindparam("start")),
    "random": _search("random", items.c.shuffle >= bindparam("start")),
    "active": _search("active", items.c.pairing == bindparam("pairing")),
}


def _choose(conn: Connection, memory: Memory, here: Standing, person: Person) -> Choice:
    def search(drawn: Drawn, **where: int | str) -> Sequence[int]:
        return conn.scalars(SEARCH[drawn], {"of": here.slug, "who": person.id} | where).all()

    def onwards(drawn: Drawn, start: int) -> Choice:
        """From a place on; from the beginning when nothing is left there."""
        return Choice(search(drawn, start=start) or (search(drawn, start=0) if start else ()), drawn)

    s = here.settings
    if here.only_gold or _share(here, person, "gold") < s.gold_share:
        golden = search("gold")
        if golden or here.only_gold:
            return Choice(golden, "gold")
    if s.order == "sequential":
        return onwards("sequence", here.cursor)
    if _share(here, person, "random") >= s.random_share:
        for key in memory.ranking(conn, here)[:PAIRINGS]:
            if found := search("active", pairing=key):
                return Choice(found, "active")
    return onwards("random", chance(s.seed, "start", person.id, here.turns))


def _share(here: Standing, person: Person, what: str) -> float:
    """A number in [0, 1) for this turn of this person."""
    return chance(here.settings.seed, what, person.id, here.turns) / 2**31


def _informative(conn: Connection, slug: str) -> list[str]:
    """Pairings with open items, by the mean information of their pairs of models, largest first; ties by name."""
    import numpy as np

    from posttrain.agreement import bradley_terry, information

    open_ = select(items.c.pairing).where(
        items.c.project == slug, items.c.gold.is_(False), items.c.open, items.c.pairing != ""
    )
    keys = sorted(conn.scalars(open_.distinct()))
    met = conn.execute(select(duels).where(duels.c.project == slug)).all()
    place = {m: n for n, m in enumerate(sorted({m for d in met for m in (d.a, d.b)}))}
    wins_MM = np.zeros((len(place), len(place)))
    for d in met:
        wins_MM[place[d.a], place[d.b]], wins_MM[place[d.b], place[d.a]] = d.a_wins, d.b_wins
    if not keys or not place:
        return keys
    gain_MM = information(*bradley_terry(wins_MM))

    def gain(key: str) -> float:
        return float(np.mean([gain_MM[place[a], place[b]] for a, b in combinations(json.loads(key), 2)]))

    return sorted(keys, key=lambda key: (-round(gain(key), 9), key))


# ---- taking ----------------------------------------------------------------------------------------------------------


def _free(drawn: Drawn) -> Any:
    """The item, and with it the person's task whose lease ran out, if there is one."""
    few = items.c.number.in_(bindparam("few", expanding=True))
    mine = tasks.alias("mine")
    lapsed = and_(mine.c.item == items.c.number, mine.c.person == bindparam("who"), mine.c.state == "lapsed")
    free = select(items, mine.c.id.label("task"), mine.c.presented).outerjoin(mine, lapsed)
    return (
        free.where(few, items.c.open, ~MINE).order_by(*ORDER[drawn]).limit(1)
        .with_for_update(of=items, skip_locked=True)
    )  # fmt: skip


FREE: dict[Drawn, Any] = {drawn: _free(drawn) for drawn in ORDER}
_given: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("lease_until", "turn", "drawn")}
AGAIN = (  # the same item for the same person, whose lease ran out
    update(tasks).where(tasks.c.id == bindparam("one"), tasks.c.state == "lapsed").values(state="leased", **_given)
)
TURN = (
    update(members)
    .where(members.c.project == bindparam("of"), members.c.person == bindparam("who"))
    .values(turns=bindparam("new_turns"), cursor=bindparam("new_cursor"))
)


def _lease(conn: Connection, now: float, here: Standing, person: Person, choice: Choice) -> Taken | None:
    """Takes the first candidate that is still free; None when none is."""
    item = conn.execute(FREE[choice.drawn], {"few": list(choice.numbers), "who": person.id}).one_or_none()
    if item is None:
        return None
    task, presented, until = item.task, item.presented, now + here.settings.lease_seconds
    fields = {"lease_until": until, "turn": here.turns, "drawn": choice.drawn}
    if task is None or not conn.execute(AGAIN, {"one": task} | {f"new_{k}": v for k, v in fields.items()}).rowcount:
        task = secrets.token_urlsafe(12)
        presented = ",".join(map(str, _presented(here, person, item_of(item.body))))
        own = {"id": task, "project": here.slug, "item": item.number, "person": person.id, "presented": presented}
        conn.execute(tasks.insert(), own | fields | {"state": "leased"})
    count(conn, item, leases=1)
    turns, cursor = here.turns + 1, item.position + 1 if choice.drawn == "sequence" else here.cursor
    who = {"of": here.slug, "who": person.id}
    if conn.execute(TURN, who | {"new_turns": turns, "new_cursor": cursor}).rowcount == 0:  # an administrator
        conn.execute(members.insert().values(project=here.slug, person=person.id, turns=turns, cursor=cursor))
    return Taken(task, presented, until, item.body)


def _presented(here: Standing, person: Person, item: TaskItem) -> list[int]:
    """A permutation of the answers, uniform over seeds, people and items; the same whenever it is asked for."""
    drawn = chance(here.settings.seed, "presented", person.id, item.id)
    left, order = list(range(len(item.answers))), []
    while left:
        drawn, place = divmod(drawn, len(left))
        order.append(left.pop(place))
    return order


_votes, _leases = items.c.votes + bindparam("more_votes"), items.c.leases + bindparam("more_leases")
_need = bindparam("need", type_=items.c.wanted.type)
COUNT = (
    update(items)
    .where(items.c.number == bindparam("one"))
    .values(votes=_votes, leases=_leases, wanted=_need, open=or_(items.c.gold, _votes + _leases < _need))
)


class Tally:
    """An item's counters while a transaction changes them; the row was read for update."""

    def __init__(self, row: Row[Any]):
        self.row, self.votes, self.leases, self.wanted = row, row.votes, row.leases, row.wanted

    def add(self, *, votes: int = 0, leases: int = 0, wanted: int | None = None) -> None:
        self.votes, self.leases = self.votes + votes, self.leases + leases
        self.wanted = self.wanted if wanted is None else wanted

    @property
    def open(self) -> bool:
        return bool(self.row.gold or self.votes + self.leases < self.wanted)

    @property
    def done(self) -> int:
        """The change in the number of finished items."""
        return 0 if self.row.gold else int(self.votes >= self.wanted) - int(self.row.votes >= self.row.wanted)

    def parameters(self) -> dict[str, int]:
        """COUNT's."""
        votes, leases = self.votes - self.row.votes, self.leases - self.row.leases
        return {"one": self.row.number, "more_votes": votes, "more_leases": leases, "need": self.wanted}


def count(conn: Connection, item: Row[Any], *, votes: int = 0, leases: int = 0, wanted: int | None = None) -> int:
    """Changes one item's counters. Returns the change in the number of finished items."""
    tally = Tally(item)
    tally.add(votes=votes, leases=leases, wanted=wanted)
    conn.execute(COUNT, tally.parameters())
    return tally.done


def sweep(conn: Connection, now: float, slug: str) -> None:
    """Leases that ran out give their places back."""
    out = (
        select(tasks.c.id, tasks.c.item)
        .where(tasks.c.project == slug, tasks.c.state == "leased", tasks.c.lease_until <= now)
        .order_by(tasks.c.item)
        .limit(SWEEP)
        .with_for_update(skip_locked=True)
    )
    for task, number in conn.execute(out).all():
        item = conn.execute(ITEM, {"one": number}).one()
        conn.execute(update(tasks).where(tasks.c.id == task).values(state="lapsed"))
        count(conn, item, leases=-1)


def _task(row: Taken, here: Standing) -> Task:
    """What the person sees: answers in presented order, without names."""
    item = item_of(row.body)
    order = [int(n) for n in row.presented.split(",") if n]
    return Task(
        id=row.id, project=here.slug, kind=here.settings.kind, prompt=item.prompt,
        answers=tuple(item.answers[n].text for n in order), instructions=here.settings.instructions,
        lease_until=row.lease_until, leak=_leaks(row.body),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def item_of(body: str) -> TaskItem:
    """An item as it was imported: given, shown again and voted on, it is read once."""
    return TaskItem.model_validate_json(body)


@lru_cache(maxsize=1024)
def _leaks(body: str) -> bool:
    return leaks(item_of(body))


def leaks(item: TaskItem) -> bool:
    models = tuple(c.model for c in item.answers if c.model)
    return any(leak(c.text, models) for c in item.answers)


def open_leases(conn: Connection, slug: str, now: float) -> int:
    held = select(func.count()).where(tasks.c.project == slug, tasks.c.state == "leased", tasks.c.lease_until > now)
    return int(conn.scalar(held) or 0)
