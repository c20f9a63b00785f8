"""The REST API of leads, viewers and administrators: projects, items, people, quality, events, snapshots, exports.

Left out on purpose: work (api.py). Exports and items carry model names and are for leads and viewers alone.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import Field

from posttrain.store import (
    ChainReport,
    Disagreement,
    Event,
    Progress,
    Project,
    ProjectSettings,
    Quality,
    Snapshot,
    TaskItem,
    leaks,
    parse_items,
)  # fmt: skip
from posttrain.web import exports
from posttrain.web.api import PROBLEMS, me_of, project_out
from posttrain.web.guard import LEAD, LOOK, AtStore, Caller, EventNumber, require, require_admin
from posttrain.web.lead import decoded, link_of
from posttrain.web.shapes import Added, Invitation, InviteIn, Me, MemberOut, ProjectOut, RoleIn

router = APIRouter(prefix="/api/v1", responses=PROBLEMS)
SLUG = "/projects/{slug}"
TEXT = {"type": "string"}


class NewProject(ProjectSettings):
    """A project's settings and its short name."""

    slug: str = Field(min_length=1, max_length=64)


@router.post("/projects", tags=["Projects"])
def create(person: Caller, given: NewProject, store: AtStore) -> ProjectOut:
    """Make a project (administrators)"""
    require_admin(person)
    store.create_project(person, given.slug, ProjectSettings.model_validate(given.model_dump(exclude={"slug"})))
    return project_out(store, person, given.slug)


@router.get(SLUG + "/settings", tags=["Projects"])
def settings(person: Caller, slug: str, store: AtStore) -> Project:
    """All settings and counts of a project"""
    require(store, person, slug, LOOK)
    return store.project(slug)


@router.put(SLUG + "/settings", tags=["Projects"])
def change_settings(person: Caller, slug: str, given: ProjectSettings, store: AtStore) -> Project:
    """Change the settings of a project, all but kind and seed"""
    require(store, person, slug, LEAD)
    return store.change_settings(person, slug, given)


@router.post(SLUG + "/close", tags=["Projects"])
def close(person: Caller, slug: str, store: AtStore) -> Project:
    """Take no more answers"""
    require(store, person, slug, LEAD)
    return store.close_project(person, slug)


@router.post(SLUG + "/reopen", tags=["Projects"])
def reopen(person: Caller, slug: str, store: AtStore) -> Project:
    """Take answers again"""
    require(store, person, slug, LEAD)
    return store.reopen_project(person, slug)


@router.post(
    SLUG + "/items", tags=["Projects"],
    openapi_extra={"requestBody": {"required": True, "content": {"application/x-ndjson": {"schema": TEXT}}}},
)  # fmt: skip
async def add_items(request: Request, person: Caller, slug: str, store: AtStore) -> Added:
    """Import items: the body is JSON Lines, one item a line"""
    from fastapi.concurrency import run_in_threadpool

    body = await request.body()

    def work() -> Added:
        require(store, person, slug, LEAD)
        items = parse_items(decoded(body, "body"), "body", store.project(slug).settings.kind)
        added = store.add_items(person, slug, items)
        return Added(added=added, leaks=tuple(leaks.leaky(items)))

    return await run_in_threadpool(work)


@router.get(SLUG + "/items", tags=["Projects"])
def items(person: Caller, slug: str, store: AtStore) -> list[TaskItem]:
    """Everything there is to label, with model names and gold (leads)"""
    require(store, person, slug, LEAD)
    return store.items(slug)


@router.get(SLUG + "/members", tags=["People"])
def members(person: Caller, slug: str, store: AtStore) -> list[MemberOut]:
    """Who is in a project (leads)"""
    require(store, person, slug, LEAD)
    return [
        MemberOut(id=m.person.id, name=m.person.name, role=m.role, votes=m.votes, skips=m.skips)
        for m in store.members(slug)
    ]


@router.put(SLUG + "/members/{person_id}", tags=["People"], status_code=204)
def set_role(person: Caller, slug: str, person_id: str, given: RoleIn, store: AtStore) -> None:
    """Change a person's role in a project, or remove the person"""
    require(store, person, slug, LEAD)
    store.set_role(person, slug, person_id, given.role)


@router.post(SLUG + "/invitations", tags=["People"])
def invite(request: Request, person: Caller, slug: str, given: InviteIn, store: AtStore) -> Invitation:
    """A link that adds somebody to a project"""
    require(store, person, slug, LEAD)
    token = store.invite(person, project=slug, role=given.role)
    return Invitation(token=token, link=link_of(request, token))


@router.post("/invitations", tags=["People"])
def invite_admin(request: Request, person: Caller, store: AtStore) -> Invitation:
    """A link that makes somebody an administrator"""
    require_admin(person)
    token = store.invite(person, project=None, role="admin")
    return Invitation(token=token, link=link_of(request, token))


@router.get("/people", tags=["People"])
def people(person: Caller, store: AtStore) -> list[Me]:
    """Everybody (administrators)"""
    require_admin(person)
    return [me_of(p) for p in store.people() if not p.erased]


@router.post("/people/{person_id}/reset", tags=["People"])
def reset(request: Request, person: Caller, person_id: str, store: AtStore) -> Invitation:
    """A link with which somebody sets a new password (administrators)"""
    require_admin(person)
    token = store.reset_link(person, person_id)
    return Invitation(token=token, link=link_of(request, token))


@router.delete("/people/{person_id}", tags=["People"], status_code=204)
def erase(person: Caller, person_id: str, store: AtStore) -> None:
    """Erase a person's name and password; the pseudonym and its votes stay (administrators)"""
    require_admin(person)
    store.erase_person(person, person_id)


@router.get(SLUG + "/progress", tags=["Looking"])
def progress(person: Caller, slug: str, store: AtStore) -> Progress:
    """Counts"""
    require(store, person, slug, LOOK)
    return store.progress(slug)


@router.get(SLUG + "/quality", tags=["Looking"])
def quality(request: Request, person: Caller, slug: str, store: AtStore) -> Quality:
    """Agreement, gold accuracy, reliability, biases"""
    require(store, person, slug, LOOK)
    found: Quality = request.app.state.dashboards.quality(store, store.project(slug))
    return found


@router.get(SLUG + "/disagreements", tags=["Looking"])
def disagreements(
    person: Caller, slug: str, store: AtStore, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[Disagreement]:
    """Items on which people differ (leads: the items carry model names)"""
    require(store, person, slug, LEAD)
    return store.disagreements(slug, limit=limit)


@router.get(SLUG + "/events", tags=["Looking"])
def events(
    person: Caller, slug: str, store: AtStore, after: EventNumber = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[Event]:  # fmt: skip
    """The hash-chained record, oldest first (leads)"""
    require(store, person, slug, LEAD)
    return store.events(slug, after=after, limit=limit)


@router.get(SLUG + "/verify", tags=["Looking"])
def verify(person: Caller, slug: str, store: AtStore) -> ChainReport:
    """Recompute every hash of the chain"""
    require(store, person, slug, LOOK)
    return store.verify(slug)


@router.get(SLUG + "/snapshots", tags=["Out"])
def snapshots(person: Caller, slug: str, store: AtStore) -> list[Snapshot]:
    """Frozen states of the votes"""
    require(store, person, slug, LOOK)
    return store.snapshots(slug)


@router.post(SLUG + "/snapshots", tags=["Out"])
def snapshot(person: Caller, slug: str, store: AtStore) -> Snapshot:
    """Freeze the votes as they are now, named by digest"""
    require(store, person, slug, LEAD)
    return store.snapshot(person, slug)


@router.get(
    SLUG + "/exports/{file}", tags=["Out"], response_class=PlainTextResponse,  # a file, not JSON
    responses={200: {"content": {"application/x-ndjson": {}, "application/ld+json": {}}}},
)  # fmt: skip
def export(person: Caller, slug: str, file: str, store: AtStore, snapshot: str = "") -> Response:
    """A file of rows: pairs, rankings, ratings, thumbs, demos, votes, items (.jsonl), croissant.json, dataset.zip,
    snapshot.zip

    Of a snapshot, or of the votes as they are now. For leads and viewers: rows carry model names."""
    require(store, person, slug, LOOK)
    return exports.answer(store, slug, file, snapshot)
