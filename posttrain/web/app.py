"""create_app: pages, API, refusals and limits in one ASGI application over one store.

Left out on purpose: settings files, plugins, background workers. One process serves a team; the database may be shared.
"""

from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import posttrain
from posttrain.errors import UserError
from posttrain.store import Closed, Conflict, Forbidden, Missing, Store, TooMany, Unavailable
from posttrain.web import api, api_lead, lead, pages, work
from posttrain.web.dashboard import Dashboards
from posttrain.web.guard import Limits, Rate, SignedOut
from posttrain.web.view import HERE, go, problem, version, wants_json

MIB = 2**20
STATUS: tuple[tuple[type[UserError], int], ...] = (
    (SignedOut, 401), (Forbidden, 403), (Missing, 404), (Conflict, 409), (Closed, 410), (TooMany, 429),
    (Unavailable, 503), (UserError, 422),
)  # fmt: skip
DESCRIPTION = "Labelling: people compare, rank, rate and rewrite answers; the votes are kept in a hash-chained record."


def create_app(store: Store, *, limit: int = MIB, import_limit: int = 64 * MIB, sign_in_failures: int = 20) -> FastAPI:
    """The application. limit, import_limit: bytes of a request's body. sign_in_failures: per address in 5 minutes."""
    app = FastAPI(
        title="posttrain label", version=posttrain.__version__, description=DESCRIPTION, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )  # fmt: skip
    app.state.store, app.state.dashboards, app.state.rate = store, Dashboards(), Rate(sign_in_failures)
    app.mount(f"/static/{version()}", StaticFiles(directory=HERE / "static"))
    for part in (work, api, api_lead, lead, pages):  # asked in this order whose a request is: the busiest first
        app.include_router(part.router)
    app.add_middleware(Limits, limit=limit, import_limit=import_limit)
    app.add_exception_handler(UserError, _refused)
    app.add_exception_handler(RequestValidationError, _misshapen)
    app.add_exception_handler(HTTPException, _no_route)
    return app


def _refused(request: Request, error: Any) -> Response:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    if status == 401 and not wants_json(request):
        target = quote(request.url.path) if request.method == "GET" else "/"
        return go(f"/sign-in?next={target}" if target != "/" else "/sign-in")
    headers = {"retry-after": str(round(getattr(error, "seconds", 1)) or 1)} if status in (429, 503) else None
    return problem(request, status, error.what, error.remedy, error.where, headers)


def _misshapen(request: Request, error: Any) -> Response:
    """FastAPI's list of what does not fit, as one sentence about the first of them."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem(request, 422, first["msg"], "see /api for what is expected", where)


def _no_route(request: Request, error: Any) -> Response:
    if error.status_code == 404:
        return problem(request, 404, "there is nothing at this address", "start from the list of projects")
    if error.status_code == 405:
        return problem(request, 405, f"this address takes no {request.method}", "see /api for what it takes")
    return problem(request, error.status_code, str(error.detail), "load the page again")
