"""The pages of leads, viewers and administrators: disagreements, quality, managing a project, people and projects.

Left out on purpose: editing of items and votes; what happened stays, and corrections are new votes.
"""

from collections import Counter
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from posttrain.errors import UserError
from posttrain.rows import explain
from posttrain.store import Disagreement, Person, Project, ProjectSettings, Role, Store, Vote, leaks, parse_items
from posttrain.web import exports, words
from posttrain.web.guard import LEAD, LOOK, AtStore, Form, Visitor, require, require_admin
from posttrain.web.view import go, page

router = APIRouter(include_in_schema=False)
ROLES: tuple[Role, ...] = ("lead", "annotator", "viewer")
EXAMPLE = {
    "pair": '{"prompt": "...", "answers": ["...", "..."]}',
    "ranking": '{"prompt": "...", "answers": ["...", "...", "..."]}',
    "demo": '{"prompt": "..."}',
}  # fmt: skip


@router.get("/p/{slug}/review")
def review(request: Request, slug: str, me: Visitor, store: AtStore) -> Response:
    """Items on which people differ. Model names are not shown here either: whoever reviews may label as well."""
    role = require(store, me, slug, LOOK)
    names = _names(store, slug) if role in LEAD else {}
    cases = [case(d, names) for d in store.disagreements(slug, limit=30)]
    return page(
        request, "review.html", me, project=store.project(slug), role=role, tab="/review", cases=cases,
        letters=words.LETTERS,
    )  # fmt: skip


def _names(store: Store, slug: str) -> dict[str, str]:
    return {m.person.id: m.person.name for m in store.members(slug) if m.person.name}


def case(found: Disagreement, names: dict[str, str]) -> dict[str, Any]:
    votes = [
        {"who": names.get(v.person, v.person), "said": words.said(v), "reason": v.reason, "seconds": v.seconds}
        for v in found.votes
    ]
    tally = Counter(side(v) for v in found.votes)
    return {
        "item": found.item.id, "prompt": found.item.prompt, "answers": [a.text for a in found.item.answers],
        "leak": found.leak, "votes": votes, "tally": tally.most_common(4),
    }  # fmt: skip


def side(vote: Vote) -> str:
    """What counts as the same opinion: the side of a pair without its strength, everything else as it is said."""
    if vote.choice in ("first", "second"):
        return "A" if vote.choice == "first" else "B"
    return words.said(vote)


@router.get("/p/{slug}/quality")
def quality(request: Request, slug: str, me: Visitor, store: AtStore) -> Response:
    role = require(store, me, slug, LOOK)
    project = store.project(slug)
    view = request.app.state.dashboards.of(store, project, names=role in LEAD)
    return page(request, "quality.html", me, project=project, role=role, tab="/quality", view=view)


@router.get("/p/{slug}/manage")
def manage(request: Request, slug: str, me: Visitor, store: AtStore) -> Response:
    return _manage(request, slug, me, store)


def _manage(
    request: Request, slug: str, me: Person, store: Store, *, link: str = "", notice: Any = None, status: int = 200
) -> Response:
    role = require(store, me, slug, LEAD)
    project, progress = store.project(slug), store.progress(slug)
    kind = project.settings.kind
    members = [{"id": m.person.id, "name": m.person.name or "erased", "role": m.role} for m in store.members(slug)]
    facts = f"{words.DOES[kind]}. {progress.items:,} items, {progress.gold_items:,} gold, {progress.votes:,} votes."
    if project.settings.order == "active" and progress.items and not store.compares_models(slug):
        facts += " No item says which models it compares, so what teaches most cannot be told: items come at random."
    hint = f"One object a line, such as {EXAMPLE.get(kind, EXAMPLE_ONE)}; models, gold, id and category if known."
    return page(
        request, "manage.html", me, project=project, role=role, tab="/manage", notice=notice, link=link, status=status,
        facts=facts, members=members, snapshots=store.snapshots(slug), exports=exports.listing(kind), import_hint=hint,
        settings=project.settings, compares=kind in ("pair", "ranking"),
    )  # fmt: skip


EXAMPLE_ONE = '{"prompt": "...", "answers": ["..."]}'


@router.post("/p/{slug}/invite")
def invite(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    require(store, me, slug, LEAD)
    token = store.invite(me, project=slug, role=role_named(str(fields.get("role", ""))))
    return _manage(request, slug, me, store, link=link_of(request, token))


def role_named(text: str) -> Role:
    for role in ROLES:
        if text == role:
            return role
    raise UserError(f"{text!r} is not a role of a project", remedy="lead, annotator or viewer")


def link_of(request: Request, token: str) -> str:
    """The address that takes up an invitation, as this browser reaches the server."""
    return f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}/join/{token}"


@router.post("/p/{slug}/members")
def members(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    require(store, me, slug, LEAD)
    role = str(fields.get("role", ""))
    store.set_role(me, slug, str(fields.get("person", "")), role_named(role) if role else None)
    return go(f"/p/{slug}/manage")


@router.post("/p/{slug}/import")
def take_items(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    require(store, me, slug, LEAD)
    upload = fields.get("file")
    if not isinstance(upload, UploadFile) or not upload.filename:
        raise UserError("no file was sent", remedy="choose a JSON Lines file")
    kind, name = store.project(slug).settings.kind, upload.filename
    try:
        items = parse_items(decoded(upload.file.read(), name), name, kind)
        added = store.add_items(me, slug, items)
    except UserError as error:
        told = {"tone": "bad", "text": " ".join(line.strip() for line in error.lines())}
        return _manage(request, slug, me, store, notice=told, status=422)
    text = "; ".join(filter(None, [f"{added:,} items imported", leaks.told(items)]))
    return _manage(request, slug, me, store, notice={"tone": "good", "text": f"{text}."})


def decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError("not UTF-8 text", where=f"{name}:{line}", remedy="save it as UTF-8") from None


@router.post("/p/{slug}/settings")
def settings(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    """Everything but kind and seed; a field that is left empty takes its default."""
    require(store, me, slug, LEAD)
    old = store.project(slug).settings
    try:
        store.change_settings(me, slug, settings_of(fields, old))
    except UserError as error:
        told = {"tone": "bad", "text": " ".join(line.strip() for line in error.lines())}
        return _manage(request, slug, me, store, notice=told, status=422)
    return _manage(request, slug, me, store, notice={"tone": "good", "text": "Settings changed."})


@router.post("/p/{slug}/snapshot")
def snapshot(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    require(store, me, slug, LEAD)
    made = store.snapshot(me, slug)
    said = f"Snapshot {made.digest[:16]} holds {made.votes:,} votes on {made.items:,} items."
    return _manage(request, slug, me, store, notice={"tone": "good", "text": said})


@router.post("/p/{slug}/close")
def close(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    require(store, me, slug, LEAD)
    store.close_project(me, slug)
    return go(f"/p/{slug}/manage")


@router.post("/p/{slug}/reopen")
def reopen(request: Request, slug: str, me: Visitor, store: AtStore, fields: Form) -> Response:
    require(store, me, slug, LEAD)
    store.reopen_project(me, slug)
    return go(f"/p/{slug}/manage")


@router.get("/admin")
def admin(request: Request, me: Visitor, store: AtStore) -> Response:
    return _admin(request, me, store)


def _admin(request: Request, me: Person, store: Store, *, link: str = "", named: str = "Invitation link") -> Response:
    require_admin(me)
    projects = [_line(p) for p in store.projects_of(me)]
    people = [p for p in store.people() if not p.erased]
    return page(
        request, "admin.html", me, projects=projects, people=people, kinds=words.KINDS, link=link, link_name=named,
        tokens=store.every_api_token(me),
    )  # fmt: skip


def _line(project: Project) -> dict[str, Any]:
    return {
        "slug": project.slug, "title": project.settings.title, "does": words.DOES[project.settings.kind],
        "total": project.items, "votes": project.votes, "closed": project.closed,
    }  # fmt: skip


@router.post("/admin/projects")
def new_project(request: Request, me: Visitor, store: AtStore, fields: Form) -> Response:
    require_admin(me)
    slug = str(fields.get("slug", "")).strip()
    store.create_project(me, slug, settings_of(fields))
    return go(f"/p/{slug}/manage")


def settings_of(fields: FormData, old: ProjectSettings | None = None) -> ProjectSettings:
    """A project's settings from the form; empty fields mean the default, those that are not in the form stay as in
    `old`, kind and seed always do."""
    given = {k: str(v).strip() for k, v in fields.items() if k in ProjectSettings.model_fields and str(v).strip()}
    if old is not None:
        kept = {"kind", "seed"} | (ProjectSettings.model_fields.keys() - fields.keys())
        given |= {k: v for k, v in old.model_dump().items() if k in kept}
    try:
        return ProjectSettings.model_validate(given)
    except ValidationError as error:
        raise UserError(explain(error), remedy="go back and correct the form") from None


@router.post("/admin/invite")
def invite_admin(request: Request, me: Visitor, store: AtStore, fields: Form) -> Response:
    require_admin(me)
    return _admin(request, me, store, link=link_of(request, store.invite(me, project=None, role="admin")))


@router.post("/admin/revoke")
def revoke(request: Request, me: Visitor, store: AtStore, fields: Form) -> Response:
    require_admin(me)
    store.revoke_token(me, str(fields.get("token", "")))
    return go("/admin")


@router.post("/admin/reset")
def reset(request: Request, me: Visitor, store: AtStore, fields: Form) -> Response:
    """A link with which somebody sets a new password; it ends that person's sessions when it is used."""
    require_admin(me)
    link = link_of(request, store.reset_link(me, str(fields.get("person", ""))))
    return _admin(request, me, store, link=link, named="Link for a new password")


@router.post("/admin/erase")
def erase(request: Request, me: Visitor, store: AtStore, fields: Form) -> Response:
    require_admin(me)
    store.erase_person(me, str(fields.get("person", "")))
    return go("/admin")
