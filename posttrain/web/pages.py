"""Pages of a person rather than of a project: sign in, join by link, projects, account, the list of API calls.

Left out on purpose: mail; links are handed over by whoever invites, sign-in names are the names people chose.
"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from posttrain.errors import UserError
from posttrain.store import Person, Project, Role, Store, TooMany
from posttrain.store.people import SHORTEST_PASSWORD
from posttrain.web import words
from posttrain.web.guard import SESSION, AtStore, Form, Visitor, give_session, give_visit, signed_in, store_of, visit
from posttrain.web.view import go, page

router = APIRouter(include_in_schema=False)
STATUS = {"Forbidden": 403, "Conflict": 409, "Closed": 410, "TooMany": 429}


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:
    return _sign_in_form(request, next)


@router.post("/sign-in")
def sign_in(request: Request, fields: Form) -> Response:
    """Checks the password; wrong ones are counted by name in the store and by address here."""
    name, target = str(fields.get("name", "")), str(fields.get("next", "/"))
    try:
        session = enter(request, name, str(fields.get("password", "")))
    except UserError as error:
        return _sign_in_form(request, target, name, error)
    answer = go(target if _local(target) else "/")
    give_session(answer, request, session)
    return answer


def enter(request: Request, name: str, password: str) -> str:
    """A new session. TooMany when this address has failed too often; what the store raises otherwise."""
    rate, address = request.app.state.rate, request.client.host if request.client else ""
    wait = rate.wait(address)
    if wait > 0:
        raise TooMany("too many failed sign-ins from this address", wait)
    try:
        return store_of(request).sign_in(name, password)
    except UserError:
        rate.failed(address)
        raise


def _local(address: str) -> bool:
    """Only addresses of this site: one slash at the beginning, nothing that a browser reads as another host."""
    return address.startswith("/") and address[1:2] not in ("/", "\\") and address.isprintable()


def _sign_in_form(request: Request, next: str, name: str = "", error: UserError | None = None) -> Response:
    visit(request)
    status = STATUS.get(type(error).__name__, 422) if error else 200
    answer = page(request, "sign_in.html", status=status, next=next if _local(next) else "/", name=name, error=error)
    give_visit(answer, request)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, store: AtStore, fields: Form) -> Response:
    store.sign_out(request.cookies.get(SESSION, ""))
    answer = go("/sign-in")
    answer.delete_cookie(SESSION)
    return answer


@router.get("/join/{token}")
def join_page(request: Request, token: str) -> Response:
    me = signed_in(request)
    try:
        owner = store_of(request).whose_password(token)
    except UserError as error:
        return _join_form(request, token, error=error)
    return _take_up(request, token, me) if me and not owner else _join_form(request, token, owner=owner)


def _join_form(
    request: Request, token: str, name: str = "", error: UserError | None = None, owner: Person | None = None
) -> Response:
    """owner: whose new password is asked for; None: a newcomer is asked for name and password."""
    visit(request)
    status = STATUS.get(type(error).__name__, 422) if error else 200
    why = f"Set a new password, {owner.name}." if owner else "Choose a name and a password to begin."
    answer = page(
        request, "join.html", status=status, token=token, name=owner.name if owner else name, error=error, why=why,
        shortest=SHORTEST_PASSWORD, reset=owner is not None,
    )  # fmt: skip
    give_visit(answer, request)
    return answer


def _take_up(request: Request, token: str, me: Person) -> Response:
    """Somebody who has an account opened an invitation: ask, because a link must not act by being opened."""
    return page(request, "take_up.html", me, token=token)


@router.post("/join/{token}")
def join(request: Request, token: str, store: AtStore, fields: Form) -> Response:
    me, owner = signed_in(request), None
    name, password = str(fields.get("name", "")).strip(), str(fields.get("password", ""))
    try:
        owner = store.whose_password(token)
        if me and not owner:
            store.join(token, me)
            return go("/")
        session = store.sign_in(store.accept(token, name, password).name, password)
    except UserError as error:
        return _join_form(request, token, name, error, owner)
    answer = go("/")
    give_session(answer, request, session)
    return answer


@router.get("/")
def projects(request: Request, store: AtStore) -> Response:
    me = signed_in(request)
    if me is None:
        return RedirectResponse("/sign-in", 303)
    cards = [card(store, me, p) for p in store.projects_of(me)]
    return page(request, "projects.html", me, projects=cards)


def card(store: Store, me: Person, project: Project) -> dict[str, Any]:
    role: Role = store.role_of(me, project.slug) or "viewer"
    progress = store.progress(project.slug)
    return {
        "slug": project.slug, "title": project.settings.title, "does": words.DOES[project.settings.kind],
        "role": role, "closed": project.closed, "total": progress.items, "done": progress.done,
        "votes": progress.votes, "labels": role != "viewer",
        "home": f"/p/{project.slug}" + ("/quality" if role == "viewer" else ""),
    }  # fmt: skip


@router.get("/account")
def account(request: Request, me: Visitor, store: AtStore) -> Response:
    return page(request, "account.html", me, tokens=store.api_tokens(me), secret="")


@router.post("/account/tokens")
def make_token(request: Request, me: Visitor, store: AtStore, fields: Form) -> Response:
    secret = store.api_token(me, str(fields.get("label", ""))[:100])
    return page(request, "account.html", me, tokens=store.api_tokens(me), secret=secret)


@router.post("/account/revoke")
def revoke_token(request: Request, me: Visitor, store: AtStore, fields: Form) -> Response:
    store.revoke_token(me, str(fields.get("token", "")))
    return go("/account")


@router.get("/api")
def api_list(request: Request) -> Response:
    """The calls of the API in one table, read from the OpenAPI description."""
    groups: dict[str, list[dict[str, str]]] = {}
    for path, methods in request.app.openapi()["paths"].items():
        for method, call in methods.items():
            line = {"method": method.upper(), "path": path, "does": call.get("description", "").partition("\n")[0]}
            groups.setdefault(call.get("tags", ["other"])[0], []).append(line)
    return page(request, "api.html", signed_in(request), groups=list(groups.items()))
