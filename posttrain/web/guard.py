"""Who is asking, and whether the request may be believed: sessions, bearer tokens, CSRF, sizes, headers, rates.

A session is a random token in an HttpOnly, SameSite=Lax cookie; the store knows its hash. Its CSRF token is an HMAC of
it, so nothing has to be stored: a foreign page can make a browser send the cookie, but cannot know the HMAC.
Bearer tokens are never sent by a browser on its own, so they need no CSRF token.
Left out on purpose: what a person may do in a project; the store decides that.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import FormData, Headers, MutableHeaders

from posttrain.errors import UserError
from posttrain.store import Forbidden, Missing, Person, Role, Store

SESSION, VISIT = "session", "visit"
SAFE = ("GET", "HEAD", "OPTIONS")
DAYS = 14  # as long as the store keeps a session
log = logging.getLogger("posttrain.web")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_bearer = HTTPBearer(auto_error=False, description="A token from the account page or POST /api/v1/sign-in")
_cookie = APIKeyCookie(name=SESSION, auto_error=False, description="The browser's session; writes need X-CSRF-Token")


class SignedOut(UserError):
    """Nobody is signed in (401; pages send the browser to the sign-in page)."""


def store_of(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def at_store(request: Request) -> Store:
    """store_of as a dependency: async, because the framework sends a plain function through a thread first."""
    return store_of(request)


def csrf_of(request: Request) -> str:
    """The CSRF token that belongs to this browser's cookie; '' when it has none."""
    key = request.cookies.get(SESSION) or request.cookies.get(VISIT) or ""
    return hmac.new(key.encode(), b"csrf", hashlib.sha256).hexdigest() if key else ""


def signed_in(request: Request) -> Person | None:
    session = request.cookies.get(SESSION)
    return store_of(request).person_of(session) if session else None


def visitor(request: Request) -> Person:
    """Whoever looks at a page. SignedOut when nobody is signed in."""
    person = signed_in(request)
    if person is None:
        raise SignedOut("nobody is signed in here", remedy="sign in first")
    return person


def check_csrf(request: Request, given: str) -> None:
    """Forbidden unless `given` belongs to the cookie and the request does not come from another site."""
    expected = csrf_of(request)
    origin = request.headers.get("origin")
    foreign = origin not in (None, "null") and origin.partition("://")[2] != request.headers.get("host")
    if foreign or not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        raise Forbidden(
            "this form is not from this session (its CSRF token is missing or wrong)",
            remedy="load the page again and send it from there; scripts use a bearer token",
        )


async def form(request: Request) -> FormData:
    """The posted fields, after the CSRF check: every page that changes something reads them through here."""
    fields = await request.form(max_files=2, max_fields=200)
    check_csrf(request, request.headers.get("x-csrf-token") or str(fields.get("csrf", "")))
    return fields


def caller(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    session: Annotated[str | None, Depends(_cookie)],
) -> Person:
    """Whoever calls the API, by bearer token or by the browser's session (whose writes need the CSRF header)."""
    if bearer is not None:
        person = store_of(request).person_of_token(bearer.credentials)
        if person is None:
            raise SignedOut("this API token is not known", remedy="make a new one on the account page")
        return person
    person = store_of(request).person_of(session) if session else None
    if person is None:
        raise SignedOut("nobody is signed in", remedy="send 'Authorization: Bearer TOKEN'; see POST /api/v1/sign-in")
    if request.method not in SAFE:
        check_csrf(request, request.headers.get("x-csrf-token", ""))
    return person


Visitor = Annotated[Person, Depends(visitor)]
Caller = Annotated[Person, Depends(caller)]
Form = Annotated[FormData, Depends(form)]
AtStore = Annotated[Store, Depends(at_store)]
EventNumber = Annotated[int, Query(ge=0, le=2**31 - 1)]  # what both databases can hold

LOOK: tuple[Role, ...] = ("admin", "lead", "viewer")
LEAD: tuple[Role, ...] = ("admin", "lead")


def require(store: Store, person: Person, slug: str, roles: tuple[Role, ...] = ()) -> Role:
    """The person's role in a project. Missing for a stranger (who learns nothing), Forbidden for another role."""
    role = store.role_of(person, slug)
    if role is None:
        raise Missing(f"there is no project {slug!r} here", remedy="look at the list of your projects")
    if roles and role not in roles:
        raise Forbidden(f"a {role} may not do this; it takes: {' or '.join(roles)}", remedy="ask a lead of the project")
    return role


def require_admin(person: Person) -> None:
    if not person.admin:
        raise Forbidden("only an administrator may do this")


def give_session(response: Response, request: Request, session: str) -> None:
    response.set_cookie(
        SESSION, session, max_age=DAYS * 86400, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    response.delete_cookie(VISIT)


def visit(request: Request) -> str:
    """A random word for a browser that is not signed in, so that its forms have a CSRF token too."""
    return request.cookies.setdefault(VISIT, secrets.token_urlsafe(24))


def give_visit(response: Response, request: Request) -> None:
    response.set_cookie(VISIT, visit(request), httponly=True, samesite="lax", secure=request.url.scheme == "https")


class Rate:
    """At most `most` failures in `seconds` for each address; kept in memory, the store counts by name besides."""

    def __init__(self, most: int = 20, seconds: float = 300.0):
        self.most, self.seconds = most, seconds
        self._failed: dict[str, deque[float]] = {}

    def wait(self, address: str) -> float:
        """Seconds until the address may try again, 0 now."""
        times = self._failed.get(address)
        while times and times[0] < time.monotonic() - self.seconds:
            times.popleft()
        if times is not None and not times:
            self._failed.pop(address, None)
        return times[0] + self.seconds - time.monotonic() if times and len(times) >= self.most else 0.0

    def failed(self, address: str) -> None:
        if len(self._failed) > 10_000:  # a flood of addresses must not fill the memory
            self._failed.clear()
        self._failed.setdefault(address, deque(maxlen=self.most)).append(time.monotonic())


class Limits:
    """ASGI: bodies are read up to a limit before anything else happens; every answer gets its security headers.

    limit: bytes of an ordinary body.  import_limit: of an import by somebody who sends credentials.
    """

    def __init__(self, app: Any, *, limit: int, import_limit: int):
        self.app, self.limit, self.import_limit = app, limit, import_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send, cached=scope["path"].startswith("/static/"))
        if scope["method"] in SAFE:
            await self._run(scope, receive, send)
            return
        body = await self._read(receive, self._limit(scope))
        if body is None:
            what = f"the request is larger than {self._limit(scope) / 2**20:.3g} MiB"
            await _refuse(scope, receive, send, 413, what, "shorten the text, or split the file and import the parts")
            return
        await self._run(scope, _replay(body, receive), send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A bug is logged here and told there in plain words, unless the answer is on its way already."""
        begun = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if not begun:
                what = "this is a mistake of the program, not yours"
                await _refuse(scope, receive, send, 500, what, "try again; the server's log has the details")

    def _limit(self, scope: Scope) -> int:
        headers = Headers(scope=scope)
        known = "authorization" in headers or f"{SESSION}=" in headers.get("cookie", "")
        return self.import_limit if known and scope["path"].endswith(("/import", "/items")) else self.limit

    @staticmethod
    async def _read(receive: Receive, limit: int) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(parts)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                return None
            if not message.get("more_body"):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, what: str, remedy: str) -> None:
    from posttrain.web.view import problem

    await problem(Request(scope, receive), status, what, remedy)(scope, receive, send)


def _with_headers(send: Send, *, cached: bool) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = POLICY
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "same-origin"
            headers["cross-origin-opener-policy"] = "same-origin"
            headers["x-frame-options"] = "DENY"
            headers.setdefault("cache-control", "public, max-age=31536000, immutable" if cached else "no-store")
        await send(message)

    return sending
