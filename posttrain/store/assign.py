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
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection, Row, and_, bindparam, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from posttrain.store.database import Database
from posttrain.store.leaks import leaks
from posttrain.store.prepared import Bundle, Prepared
from posttrain.store.projects import STANDING_OF_ONE, WORKERS, Standing, admitted, chance
from posttrain.store.rows import Drawn, Person, Task, TaskItem
from posttrain.store.schema import authors, duels, items, members, projects, tasks

TRIES = 50
PAIRINGS = 8  # most informative pairings looked into before any open item will do
REFIT = 20  # votes after which strengths are estimated anew
SWEEP = 200  # leases taken back at a time
SWEEP_SECONDS = 5.0  # between looks for leases that ran out, while there is something to give anyway


class Search(NamedTuple):
    """One place to look for an item: an order, and where in it."""

    drawn: Drawn
    where: dict[str, int | str] = {}


class Offer(NamedTuple):
    """A task, None when nothing is left for this person now, and how far the project is."""

    task: Task | None
    items: int
    done: int


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


_columns = ("number", "id", "body", "position", "gold", "votes", "leases", "wanted", "open")
ITEM_COLUMNS = [items.c[name] for name in _columns]  # what Tally and whoever shows an item read
ITEM = select(*ITEM_COLUMNS).where(items.c.number == bindparam("one")).with_for_update()
_held = and_(
    tasks.c.project == projects.c.slug, tasks.c.person == bindparam("who"), tasks.c.state == "leased",
    tasks.c.lease_until > bindparam("now"),
)  # fmt: skip
LOOK = Prepared(  # the person's standing, beside each task that the person holds
    STANDING_OF_ONE.add_columns(tasks.c.id.label("task"), tasks.c.presented, tasks.c.lease_until, items.c.body)
    .outerjoin(tasks, _held)
    .outerjoin(items, items.c.number == tasks.c.item)
    .order_by(tasks.c.turn)
)
_out = and_(tasks.c.project == bindparam("of"), tasks.c.state == "leased", tasks.c.lease_until <= bindparam("now"))
RAN_OUT = Prepared(select(tasks.c.id).where(_out).limit(1))


def give(db: Database, memory: Memory, person: Person, slug: str, ahead: int) -> Offer:
    """The person's current task (ahead 0) or the one after it (1), taken if need be."""
    for _ in range(TRIES):
        here, held, places = db.read(lambda conn: _look(conn, db.clock(), memory, person, slug, ahead))
        if len(held) > ahead:
            return Offer(_task(held[ahead], here), here.items, here.done)
        if not places:
            break
        if memory.sweep_due(slug, db.clock()) and _swept(db, slug):
            continue
        taken = _take(db, here, person, places)
        if taken and len(held) == ahead:
            return Offer(_task(taken, here), here.items, here.done)
        if not taken and not _any(db, here, person, places) and not _swept(db, slug):
            break
    return Offer(None, here.items, here.done)


def _swept(db: Database, slug: str) -> bool:
    """Gives back what leases that ran out held; False: there are none."""
    if not db.read(lambda conn: RAN_OUT(conn, {"of": slug, "now": db.clock()})):
        return False
    db.write(lambda conn: sweep(conn, db.clock(), slug), durable=False)
    return True


def _take(db: Database, here: Standing, person: Person, places: Sequence[Search]) -> Taken | None:
    try:
        return db.write(lambda conn: _lease(conn, db.clock(), here, person, places), durable=False)
    except IntegrityError:  # the same person, at the same moment, from another window
        return None


def _look(
    conn: Connection, now: float, memory: Memory, person: Person, slug: str, ahead: int
) -> tuple[Standing, list[Taken], list[Search]]:
    """Where the person stands, what the person holds, and where to look for more: nowhere when that is enough."""
    rows = LOOK(conn, {"of": slug, "who": person.id, "now": now})
    here = admitted(rows[0] if rows else None, person, slug, *WORKERS)
    here.must_be_open()
    held = [Taken(row.task, row.presented, row.lease_until, row.body) for row in rows if row.task is not None]
    cap = here.settings.per_person_cap
    if len(held) > ahead or (cap is not None and here.votes + len(held) >= cap):
        return here, held, []
    return here, held, _places(conn, memory, here, person)


# ---- choosing --------------------------------------------------------------------------------------------------------

_mine = and_(tasks.c.item == items.c.number, tasks.c.person == bindparam("who"))
MINE = select(tasks.c.id).where(_mine, tasks.c.state != "lapsed").exists()  # had already: it does not come again
LAPSED = select(tasks.c.id).where(_mine, tasks.c.state == "lapsed").scalar_subquery()
OWN = select(authors.c.item).where(authors.c.item == items.c.number, authors.c.person == bindparam("who")).exists()
ORDER: dict[Drawn, tuple[Any, ...]] = {
    "gold": (items.c.position,), "sequence": (items.c.position,), "random": (items.c.shuffle,),
    "active": (items.c.votes, items.c.shuffle),
}  # fmt: skip


def _search(drawn: Drawn, *where: Any) -> Any:
    """The first item in this order that the person may get, and with it the person's task whose lease ran out.

    Outer joins in place of the exists make PostgreSQL sort all items: it believes that hardly any is left.
    """
    here = and_(items.c.project == bindparam("of"), items.c.gold == (drawn == "gold"), items.c.open, *where)
    found = select(*ITEM_COLUMNS, LAPSED.label("task")).where(here, ~MINE, ~OWN)
    return found.order_by(*ORDER[drawn]).limit(1)


_searches: dict[Drawn, Any] = {
    "gold": _search("gold"),
    "sequence": _search("sequence", items.c.position >= bindparam("start")),
    "random": _search("random", items.c.shuffle >= bindparam("start")),
    "active": _search("active", items.c.pairing == bindparam("pairing")),
}
SEARCH = {drawn: Prepared(search) for drawn, search in _searches.items()}
TAKE = {drawn: Prepared(s.with_for_update(of=items, skip_locked=True)) for drawn, s in _searches.items()}


def _places(conn: Connection, memory: Memory, here: Standing, person: Person) -> list[Search]:
    """Where to look for this person's next item, one after the other."""
    s = here.settings
    found = [Search("gold")] if here.only_gold or _share(here, person, "gold") < s.gold_share else []
    if here.only_gold:
        return found
    if s.order == "sequential":
        return found + _onwards("sequence", here.cursor)
    if _share(here, person, "random") >= s.random_share:
        found += [Search("active", {"pairing": key}) for key in memory.ranking(conn, here)[:PAIRINGS]]
    return found + _onwards("random", chance(s.seed, "start", person.id, here.turns))


def _onwards(drawn: Drawn, start: int) -> list[Search]:
    """From a place on; from the beginning when nothing is left there."""
    return [Search(drawn, {"start": start})] + ([Search(drawn, {"start": 0})] if start else [])


def _any(db: Database, here: Standing, person: Person, places: Sequence[Search]) -> bool:
    """Is there anything, be it that others are taking it at this moment?"""
    return db.read(lambda conn: any(_first(conn, SEARCH, here, person, place) for place in places))


def _first(conn: Connection, how: dict[Drawn, Prepared], here: Standing, person: Person, place: Search) -> Any:
    return next(iter(how[place.drawn](conn, {"of": here.slug, "who": person.id} | place.where)), None)


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


_given: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("lease_until", "turn", "drawn")}
AGAIN = Prepared(  # the same item for the same person, whose lease ran out
    update(tasks).where(tasks.c.id == bindparam("as"), tasks.c.state == "lapsed").values(state="leased", **_given)
)
NEW = tasks.insert().values(
    id=bindparam("as"), project=bindparam("of"), item=bindparam("one"), person=bindparam("who"), state="leased",
    presented=bindparam("shown"), **_given,
)  # fmt: skip


def _lease(conn: Connection, now: float, here: Standing, person: Person, places: Sequence[Search]) -> Taken | None:
    """Takes the first item that nobody else is taking; None when there is none."""
    found = ((place.drawn, _first(conn, TAKE, here, person, place)) for place in places)
    drawn, item = next(((drawn, item) for drawn, item in found if item), ("gold", None))
    if item is None:
        return None
    if not here.member:  # an administrator's first task here
        conn.execute(members.insert().values(project=here.slug, person=person.id))
    until, cursor = now + here.settings.lease_seconds, item.position + 1 if drawn == "sequence" else here.cursor
    given: dict[str, Any] = {
        "as": item.task or secrets.token_urlsafe(12), "of": here.slug, "who": person.id,
        "shown": ",".join(map(str, _presented(here, person, item))), "new_lease_until": until, "new_turn": here.turns,
        "new_drawn": drawn, "new_turns": here.turns + 1, "new_cursor": cursor,
    } | Tally(item).add(leases=1).parameters()  # fmt: skip
    if item.task and AGAIN.change(conn, [given]):
        COUNT_AND_TURN(conn, [given])
    else:  # where somebody has just now voted on the lapsed task, this one meets the unique constraint
        NEW_COUNT_AND_TURN(conn, [given])
    return Taken(given["as"], given["shown"], until, item.body)


def _presented(here: Standing, person: Person, item: Any) -> list[int]:
    """A permutation of the answers, uniform over seeds, people and items; the same whenever it is asked for."""
    drawn = chance(here.settings.seed, "presented", person.id, item.id)
    left, order = list(range(len(item_of(item.body).answers))), []
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
TURN = (
    update(members)
    .where(members.c.project == bindparam("of"), members.c.person == bindparam("who"))
    .values(turns=bindparam("new_turns"), cursor=bindparam("new_cursor"))
)
COUNT_AND_TURN, NEW_COUNT_AND_TURN = Bundle(COUNT, TURN), Bundle(NEW, COUNT, TURN)


class Tally:
    """An item's counters while a transaction changes them; the row was read for update."""

    def __init__(self, row: Any):
        self.row, self.votes, self.leases, self.wanted = row, row.votes, row.leases, row.wanted

    def add(self, *, votes: int = 0, leases: int = 0, wanted: int | None = None) -> Self:
        self.votes, self.leases = self.votes + votes, self.leases + leases
        self.wanted = self.wanted if wanted is None else wanted
        return self

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
    tally = Tally(item).add(votes=votes, leases=leases, wanted=wanted)
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


def open_leases(conn: Connection, slug: str, now: float) -> int:
    held = select(func.count()).where(tasks.c.project == slug, tasks.c.state == "leased", tasks.c.lease_until > now)
    return int(conn.scalar(held) or 0)
