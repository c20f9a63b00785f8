"""Projects: settings, members, items; and who may do what in one (`standing`).

Left out on purpose: deleting. A project is closed, and what happened in it stays.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from posttrain.errors import UserError
from posttrain.rows import canonical, digest
from posttrain.store import chain, events, labels, people
from posttrain.store.database import Database
from posttrain.store.errors import Closed, Conflict, Forbidden, Missing
from posttrain.store.prepared import Prepared
from posttrain.store.rows import Member, Person, Project, ProjectSettings, Role, TaskItem
from posttrain.store.schema import authors, duels, heads, items, members, projects, tasks
from posttrain.store.schema import people as accounts

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MODELS = 300  # more cannot be paired off sensibly
CHUNK = 500  # rows a statement


class Standing(NamedTuple):
    """A project as one person meets it."""

    slug: str
    settings: ProjectSettings
    closed: bool
    role: Role | None
    member: bool  # administrators need not be one
    turns: int  # tasks ever given to the person
    votes: int  # the person's
    cursor: int
    everybody: int  # votes of all
    items: int  # gold apart
    done: int  # of them
    only_gold: bool

    def must_be_open(self) -> None:
        if self.closed:
            raise Closed(f"project {self.slug!r} is closed", remedy="ask a lead to open it again")


STANDING_COLUMNS = (
    projects.c.slug, projects.c.settings, projects.c.closed, members.c.person.label("member"), members.c.role,
    members.c.turns, members.c.votes.label("own_votes"), members.c.cursor, heads.c.votes.label("everybody"),
    heads.c.plain_items, heads.c.gold_items, heads.c.done,
)  # fmt: skip
STANDING_OF_ONE = (
    select(*STANDING_COLUMNS)
    .join(heads, heads.c.project == projects.c.slug)
    .outerjoin(members, and_(members.c.project == projects.c.slug, members.c.person == bindparam("who")))
    .where(projects.c.slug == bindparam("of"))
)
STANDING = Prepared(STANDING_OF_ONE)


@lru_cache(maxsize=256)
def _settings(text: str) -> ProjectSettings:
    return ProjectSettings.model_validate_json(text)


def standing(conn: Connection, person: Person, slug: str, *roles: Role) -> Standing:
    """Missing for strangers, as if the project were not there; Forbidden for members without one of `roles`."""
    rows = STANDING(conn, {"of": slug, "who": person.id})
    return admitted(rows[0] if rows else None, person, slug, *roles)


def admitted(row: Any, person: Person, slug: str, *roles: Role) -> Standing:
    """standing, of a row with STANDING_COLUMNS; None: there is no such project."""
    role: Role | None = "admin" if person.admin else row.role if row else None
    if row is None or role is None:
        raise Missing(f"there is no project {slug!r}")
    if roles and role not in roles:
        raise Forbidden(f"a {role} may not do this in project {slug!r}", remedy=f"ask for the role {roles[-1]}")
    return Standing(
        slug, _settings(row.settings), bool(row.closed), role, row.member is not None, row.turns or 0,
        row.own_votes or 0, row.cursor or 0, row.everybody, row.plain_items, row.done,
        row.plain_items == 0 and row.gold_items > 0,
    )  # fmt: skip


LEADS: tuple[Role, ...] = ("admin", "lead")
WORKERS: tuple[Role, ...] = ("admin", "lead", "annotator")


def create(db: Database, by: Person, slug: str, settings: ProjectSettings) -> Project:
    if not by.admin:
        raise Forbidden("only an administrator may create projects")
    if not SLUG.fullmatch(slug):
        what = "expected lower-case letters, digits and hyphens, at most 63"
        raise UserError(what, where=f"project {slug!r}", remedy="a short name such as helpfulness; --title says more")

    def work(conn: Connection) -> Project:
        body = settings.model_dump(mode="json")
        now = db.clock()
        conn.execute(projects.insert().values(slug=slug, settings=canonical(body), created=now, closed=False))
        events.begin(conn, slug)
        events.append(conn, now, slug, "project", by, {"settings": body})
        return get(conn, slug)

    try:
        return db.write(work, again=False)
    except IntegrityError:
        raise Conflict(f"there is a project {slug!r} already", remedy="choose another name") from None


def _query() -> Any:
    return select(projects, heads.c.hash, heads.c.plain_items, heads.c.gold_items, heads.c.votes).join(
        heads, heads.c.project == projects.c.slug
    )


def _project(row: Row[Any]) -> Project:
    return Project(
        slug=row.slug, settings=_settings(row.settings), created=row.created, closed=row.closed,
        items=row.plain_items + row.gold_items, votes=row.votes, head=row.hash,
    )  # fmt: skip


def get(conn: Connection, slug: str) -> Project:
    row = conn.execute(_query().where(projects.c.slug == slug)).one_or_none()
    if row is None:
        raise Missing(f"there is no project {slug!r}")
    return _project(row)


def compares_models(conn: Connection, slug: str) -> bool:
    """Whether some item says which different models it compares, without which nothing teaches more than the rest."""
    found = select(items.c.number).where(items.c.project == slug, items.c.gold.is_(False), items.c.pairing != "")
    return conn.execute(found.limit(1)).first() is not None


def of_person(conn: Connection, person: Person) -> list[Project]:
    query = _query().order_by(projects.c.created, projects.c.slug)
    if not person.admin:
        mine = and_(members.c.project == projects.c.slug, members.c.person == person.id, members.c.role.is_not(None))
        query = query.join(members, mine)
    return [_project(row) for row in conn.execute(query)]


def role(conn: Connection, person: Person, slug: str) -> Role | None:
    try:
        return standing(conn, person, slug).role
    except Missing:
        return None


def set_closed(db: Database, by: Person, slug: str, closed: bool) -> Project:
    def work(conn: Connection) -> Project:
        if standing(conn, by, slug, *LEADS).closed != closed:
            conn.execute(update(projects).where(projects.c.slug == slug).values(closed=closed))
            events.append(conn, db.clock(), slug, "closed" if closed else "reopened", by, {})
        return get(conn, slug)

    return db.write(work)


def change(db: Database, by: Person, slug: str, settings: ProjectSettings) -> Project:
    """New settings; what every item needs is counted anew. Kind and seed stay: votes were cast under them."""

    def work(conn: Connection) -> Project:
        old = standing(conn, by, slug, *LEADS).settings
        for field in ("kind", "seed"):
            if getattr(old, field) != getattr(settings, field):
                raise Conflict(f"{field} cannot be changed", where=f"project {slug!r}", remedy="create a new project")
        if settings == old:
            return get(conn, slug)
        body = settings.model_dump(mode="json")
        conn.execute(update(projects).where(projects.c.slug == slug).values(settings=canonical(body)))
        events.append(conn, db.clock(), slug, "settings", by, {"settings": body})
        if (settings.labels_per_item, settings.max_labels) != (old.labels_per_item, old.max_labels):
            _needs(conn, slug, settings)
        return get(conn, slug)

    return db.write(work)


def _needs(conn: Connection, slug: str, settings: ProjectSettings) -> None:
    """Every item's `wanted`, `open` and the head's `done`, after a change of settings."""
    said: dict[int, list[str]] = {}
    for item, label in conn.execute(
        select(tasks.c.item, tasks.c.label).where(tasks.c.project == slug, tasks.c.state == "voted")
    ):
        said.setdefault(item, []).append(label)
    by_need: dict[int, list[int]] = {}
    for (number,) in conn.execute(select(items.c.number).where(items.c.project == slug, items.c.gold.is_(False))):
        need = labels.wanted(settings.kind, said.get(number, []), settings.labels_per_item, settings.max_labels)
        by_need.setdefault(need, []).append(number)
    for need, numbers in by_need.items():
        for start in range(0, len(numbers), CHUNK):
            few = items.c.number.in_(numbers[start : start + CHUNK])
            open_ = items.c.votes + items.c.leases < need
            conn.execute(update(items).where(few).values(wanted=need, open=open_))
    done = select(func.count()).where(items.c.project == slug, items.c.gold.is_(False), items.c.votes >= items.c.wanted)
    conn.execute(update(heads).where(heads.c.project == slug).values(done=done.scalar_subquery()))


# ---- members ---------------------------------------------------------------------------------------------------------


def of_project(conn: Connection, slug: str) -> list[Member]:
    get(conn, slug)
    rows = conn.execute(
        select(members, accounts.c.name, accounts.c.admin)
        .join(accounts, accounts.c.id == members.c.person)
        .where(members.c.project == slug, members.c.role.is_not(None))
        .order_by(accounts.c.name, accounts.c.id)
    )
    return [
        Member(person=Person(id=r.person, name=r.name or "", admin=r.admin), role=r.role, votes=r.votes, skips=r.skips)
        for r in rows
    ]


def set_role(db: Database, by: Person, slug: str, person_id: str, role: Role | None) -> None:
    if role == "admin":
        raise UserError("a project's roles are lead, annotator and viewer", where="role")

    def work(conn: Connection) -> None:
        standing(conn, by, slug, *LEADS)
        people.exists(conn, person_id)
        people.set_member(conn, db.clock(), by, slug, person_id, role)

    db.write(work)


def invite(db: Database, by: Person, project: str | None, role: Role, name: str) -> str:
    if (project is None) != (role == "admin"):
        raise UserError("an administrator is invited without a project, everybody else to one", where="project")
    if project is not None:
        db.read(lambda conn: standing(conn, by, project, *LEADS))
    elif not by.admin:
        raise Forbidden("only an administrator may invite administrators")
    return people.invite(db, project, role, name)


# ---- items -----------------------------------------------------------------------------------------------------------


def add_items(db: Database, by: Person, slug: str, new: Iterable[TaskItem]) -> int:
    """All or none. Items of a project never change; one import is one event, which holds the digest of its items."""
    rows = list(new)

    def work(conn: Connection) -> int:
        here = standing(conn, by, slug, *LEADS)
        here.must_be_open()
        _check(conn, here, rows)
        if not rows:
            return 0
        bodies = [_body(item) for item in rows]
        golden = sum(item.gold is not None for item in rows)
        whole = chain.digest_of(bodies)
        body = {"count": len(rows), "gold": golden, "digest": whole}
        event = events.append(
            conn, db.clock(), slug, "items", by, body, plain_items=len(rows) - golden, gold_items=golden
        )  # the head's row is locked from here on, so positions are nobody else's
        start = conn.scalar(select(func.coalesce(func.max(items.c.position) + 1, 0)).where(items.c.project == slug))
        for n in range(0, len(rows), CHUNK):
            few = zip(rows[n : n + CHUNK], bodies[n : n + CHUNK])
            conn.execute(
                items.insert(),
                [
                    _columns(here, item, text, event.number, int(start or 0) + n + k)
                    for k, (item, text) in enumerate(few)
                ],
            )
        _authors(conn, slug, rows)
        _duels(conn, here, rows)
        return len(rows)

    return db.write(work, again=False)


def _check(conn: Connection, here: Standing, rows: list[TaskItem]) -> None:
    seen: set[str] = set()
    for item in rows:
        if item.id in seen:
            raise Conflict(f"the id {item.id!r} occurs twice", where="items", remedy="give every item its own id")
        if not item.id.isprintable():
            raise UserError(f"expected printable characters, got {item.id!r}", where="item id")
        seen.add(item.id)
        labels.check_item(here.settings.kind, item)
    ids = [item.id for item in rows]
    for n in range(0, len(ids), CHUNK):
        few = items.c.id.in_(ids[n : n + CHUNK])
        known = conn.scalars(select(items.c.id).where(items.c.project == here.slug, few).limit(3)).all()
        if known:
            which = ", ".join(repr(x) for x in known)
            remedy = "leave out what was imported before, or give it new ids"
            raise Conflict(f"ids that the project has already: {which}", where="items", remedy=remedy)


def _body(item: TaskItem) -> str:
    """Canonical JSON, as in rows.canonical, of what JSON can hold."""
    held = item.model_dump(exclude_defaults=True)
    try:
        text = json.dumps(held, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
        return text
    except (ValueError, TypeError) as error:
        what = f"only what JSON can hold can be kept: {error}"
        raise UserError(what, where=f"item {item.id!r}, meta") from None


def _columns(here: Standing, item: TaskItem, text: str, event: int, position: int) -> dict[str, Any]:
    return {
        "project": here.slug, "id": item.id, "body": text, "event": event, "position": position,
        "shuffle": chance(here.settings.seed, "shuffle", item.id), "pairing": pairing(item),
        "gold": item.gold is not None, "votes": 0, "leases": 0, "wanted": here.settings.labels_per_item, "open": True,
    }  # fmt: skip


def chance(*what: object) -> int:
    """31 bits that depend on nothing but what is given: the same on every machine, in every process."""
    return int(digest([str(x) for x in what])[:8], 16) & 0x7FFFFFFF


def pairing(item: TaskItem) -> str:
    """The models that an item compares, as a key; '' where they are not known or all the same."""
    models = sorted({c.model for c in item.answers if c.model})
    return canonical(models) if len(models) > 1 else ""


def _authors(conn: Connection, slug: str, rows: list[TaskItem]) -> None:
    wrote = {(item.id, c.author) for item in rows for c in item.answers if c.author}
    for item_id, person in sorted(wrote):
        number = select(items.c.number).where(items.c.project == slug, items.c.id == item_id).scalar_subquery()
        conn.execute(authors.insert().values(item=number, person=person))


def _duels(conn: Connection, here: Standing, rows: list[TaskItem]) -> None:
    """A row for every two models that meet, so that votes only add to it."""
    if here.settings.kind not in ("pair", "ranking"):
        return
    new = {
        two for key in {pairing(r) for r in rows if r.gold is None} if key for two in combinations(json.loads(key), 2)
    }
    old = conn.execute(select(duels.c.a, duels.c.b).where(duels.c.project == here.slug)).all()
    met = new - {(r.a, r.b) for r in old}
    if len({m for two in met | {(r.a, r.b) for r in old} for m in two}) > MODELS:
        raise UserError(f"more than {MODELS} models in one project", where="items", remedy="leave `models` out")
    if met:
        rows_ = [{"project": here.slug, "a": a, "b": b, "a_wins": 0.0, "b_wins": 0.0} for a, b in sorted(met)]
        conn.execute(duels.insert(), rows_)
