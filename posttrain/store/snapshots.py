"""A snapshot: a project frozen at one event, named by a digest of that event's hash; training sets are made of these.

It is read back from events and items up to that number, after the chain was verified, so what was voted, undone or
imported later does not show. Taking one changes nothing: the same state gives the same digest.
"""

import json
from typing import Any

from sqlalchemy import Connection, Row, select

from posttrain.errors import UserError
from posttrain.rows import digest
from posttrain.store import events, work
from posttrain.store.database import Database
from posttrain.store.errors import Missing
from posttrain.store.projects import LEADS, get, standing
from posttrain.store.rows import Person, Project, ProjectSettings, Snapshot, TaskItem, Vote
from posttrain.store.schema import events as chain
from posttrain.store.schema import heads, items, snapshots


def take(db: Database, by: Person, slug: str) -> Snapshot:
    def frozen(conn: Connection) -> Snapshot:
        standing(conn, by, slug, *LEADS)
        head = conn.execute(select(heads).where(heads.c.project == slug).with_for_update()).one()
        name = digest({"project": slug, "events": head.number, "head": head.hash})
        old = conn.execute(select(snapshots).where(snapshots.c.digest == name)).one_or_none()
        if old is None:
            conn.execute(
                snapshots.insert().values(
                    digest=name, project=slug, events=head.number, head_hash=head.hash, votes=head.votes,
                    items=head.plain_items + head.gold_items, at=max(db.clock(), head.at), person=by.id,
                )
            )  # fmt: skip
            old = conn.execute(select(snapshots).where(snapshots.c.digest == name)).one()
        return _snapshot(old)

    return db.write(frozen)


def _snapshot(row: Row[Any]) -> Snapshot:
    return Snapshot(
        digest=row.digest, project=row.project, votes=row.votes, items=row.items, events=row.events,
        head_hash=row.head_hash, at=row.at,
    )  # fmt: skip


def of_project(conn: Connection, slug: str) -> list[Snapshot]:
    """Oldest first."""
    get(conn, slug)
    rows = conn.execute(select(snapshots).where(snapshots.c.project == slug).order_by(snapshots.c.events))
    return [_snapshot(row) for row in rows]


def read(conn: Connection, name: str) -> tuple[Snapshot, Project, list[TaskItem], list[Vote]]:
    found = conn.execute(select(snapshots).where(snapshots.c.digest.startswith(name, autoescape=True)).limit(2)).all()
    if len(found) != 1 or len(name) < 8:
        what = "there is no such snapshot" if not found else "this could be several snapshots"
        raise Missing(what, where=f"snapshot {name!r}", remedy="give at least 8 digits of its digest")
    row = found[0]
    report = events.verify(conn, row.project)
    if not report.ok:
        raise UserError(f"the chain does not verify: {report.problem}", where=report.first_bad or row.project)
    upto = (chain.c.project == row.project) & (chain.c.number <= row.events)
    kinds = ("project", "settings", "closed", "reopened")
    said = conn.execute(select(chain).where(upto, chain.c.kind.in_(kinds)).order_by(chain.c.number)).all()
    settings = [json.loads(r.body)["settings"] for r in said if r.kind in ("project", "settings")][-1]
    ends = [r.kind for r in said if r.kind in ("closed", "reopened")]
    project = Project(
        slug=row.project, settings=ProjectSettings.model_validate(settings), created=said[0].at,
        closed=bool(ends) and ends[-1] == "closed", items=row.items, votes=row.votes, head=row.head_hash,
    )  # fmt: skip
    return _snapshot(row), project, items_of(conn, row.project, row.events), work.votes(conn, row.project, row.events)


def items_of(conn: Connection, slug: str, upto: int | None = None) -> list[TaskItem]:
    """In the order of import; those that event `upto` or an earlier one brought."""
    query = select(items.c.body).where(items.c.project == slug).order_by(items.c.position)
    query = query if upto is None else query.where(items.c.event <= upto)
    return [TaskItem.model_validate_json(body) for body in conn.scalars(query)]


def item(conn: Connection, slug: str, item_id: str) -> TaskItem:
    body = conn.scalar(select(items.c.body).where(items.c.project == slug, items.c.id == item_id))
    if body is None:
        raise Missing(f"project {slug!r} has no item {item_id!r}")
    return TaskItem.model_validate_json(body)
