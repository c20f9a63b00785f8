"""Templates, and answers made of them: pages, problems in plain words, redirects.

Everything that comes from people is escaped by Jinja (autoescape is on for all templates). Left out on purpose:
state; the environment is built once and compiled templates are kept.
"""

import hashlib
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from posttrain.store import Person, Project, Role
from posttrain.web.guard import csrf_of

HERE = Path(__file__).parent
TITLES = {
    400: "This request makes no sense", 401: "Sign in first", 403: "Not allowed", 404: "Not found",
    405: "Not that way", 409: "Already done", 410: "No longer open", 413: "Too large", 422: "Something is not right",
    429: "Too many tries", 500: "Something broke here", 503: "Busy",
}  # fmt: skip


@cache
def version() -> str:
    """Digest of the static files: part of their address, so browsers may keep them for ever."""
    whole = hashlib.sha256()
    for path in sorted((HERE / "static").iterdir()):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


@cache
def environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, auto_reload=False, undefined=StrictUndefined,
        trim_blocks=False, enable_async=False,
    )  # fmt: skip
    env.filters |= {
        "when": lambda at: time.strftime("%-d %b %Y, %H:%M", time.gmtime(at)) + " UTC",
        "iso": lambda at: datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        "count": lambda n: f"{n:,}",
        "clock": clock,
    }
    env.globals |= {"version": version()}
    return env


def clock(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def render(template: str, /, **values: Any) -> str:
    return environment().get_template(template).render(**values)


def page(
    request: Request, template: str, me: Person | None = None, /, *, status: int = 200, project: Project | None = None,
    role: Role | None = None, tab: str = "", notice: Any = None, **values: Any,
) -> HTMLResponse:  # fmt: skip
    """A whole page; who is signed in and the project's tabs are printed by base.html."""
    shell = {"slug": project.slug, "title": project.settings.title, "closed": project.closed,
             "instructions": project.settings.instructions} if project else None  # fmt: skip
    html = render(
        template, me=me, csrf=csrf_of(request), project=shell, tabs=tabs(role), tab=tab, notice=notice, **values
    )
    return HTMLResponse(html, status)


def tabs(role: Role | None) -> list[tuple[str, str]]:
    """The project pages a role has: (end of the address, name)."""
    found = [("", "Label"), ("/history", "My answers")] if role in ("admin", "lead", "annotator") else []
    if role in ("admin", "lead", "viewer"):
        found += [("/review", "Disagreements"), ("/quality", "Quality")]
    return found + ([("/manage", "Manage")] if role in ("admin", "lead") else [])


def go(address: str) -> RedirectResponse:
    return RedirectResponse(address, 303)


def wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/") or "x-fragment" in request.headers


def problem(
    request: Request, status: int, what: str, remedy: str = "", where: str = "", headers: dict[str, str] | None = None
) -> Response:
    """What went wrong, as JSON for programs and as a page for people; always with what to do about it."""
    if wants_json(request):
        error = {"what": what, "where": where, "remedy": remedy}
        return JSONResponse({"error": error}, status, headers=headers)
    what = f"{where}: {_sentence(what)}" if where else _sentence(what)
    html = render(
        "error.html", me=None, csrf="", project=None, notice=None, status=status, what=what,
        title=TITLES.get(status, "That did not work"), remedy=_sentence(remedy),
    )  # fmt: skip
    return HTMLResponse(html, status, headers=headers)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?")) else text + "."
