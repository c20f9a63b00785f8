"""The OpenAI protocol over HTTP: models, chat, completions, feedback, health, metrics.

Left out on purpose: several models, accounts, TLS; drawing tokens (engine.py) and the protocol's shapes (wire.py).
"""

import asyncio
import hmac
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi import Request as Http
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException

from posttrain import listen
from posttrain.errors import UserError
from posttrain.pipeline import Record
from posttrain.rows import Message
from posttrain.serve import feedback, wire
from posttrain.serve.answer import Request
from posttrain.serve.engine import Busy, Desk
from posttrain.serve.metrics import Metrics
from posttrain.serve.wire import Refusal

OPEN = ("/health",)  # paths that need no key
STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # proxies must not collect the pieces


class Service:
    """What the routes work with: the engine, the model's name, the feedback log, the counters."""

    def __init__(
        self, desk: Desk, name: str, log: feedback.Log | None, *, key: str = "", weights: str = "",
        renew: Callable[[], None] | None = None,
    ):  # fmt: skip
        self.desk, self.name, self.log, self.key, self.weights, self.renew = desk, name, log, key, weights, renew
        self.metrics, self.begun = Metrics(), int(time.time())

    def close(self) -> None:
        self.desk.close()
        if self.log:
            self.log.close()


def create(service: Service) -> FastAPI:
    """The application. Closing it stops the engine."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="posttrain", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _errors(app)
    app.add_middleware(Guard, service=service)
    _small_routes(app, service)
    _feedback_route(app, service)

    @app.post("/v1/chat/completions")
    async def chat(asked: wire.Chat, http: Http) -> Response:
        _is_ours(service, asked.model)
        messages = [said.message() for said in asked.messages]
        return await _answer(service, http, asked, [(_conversation(service, messages), "")], tuple(messages))

    @app.post("/v1/completions")
    async def completions(asked: wire.Completion, http: Http) -> Response:
        _is_ours(service, asked.model)
        prompts = [_tokens(service, p) for p in asked.prompts()]
        if not prompts or len(prompts) * asked.n > 512:
            raise Refusal(400, "prompt: one request takes 1 to 512 prompts x n", param="prompt")
        remembered = (Message(role="user", content=prompts[0][1]),) if len(prompts) == 1 else ()
        return await _answer(service, http, asked, prompts, remembered)

    return app


def _small_routes(app: FastAPI, service: Service) -> None:
    desk = service.desk

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": service.name, "running": desk.running, "waiting": desk.waiting}

    @app.get("/metrics")
    async def metrics() -> Response:
        gauges = {"running": desk.running, "waiting": desk.waiting, "slots": desk.slots}
        gauges |= {"engine_steps": desk.steps, "engine_tokens": desk.drawn}
        return PlainTextResponse(service.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    @app.post("/v1/reload")
    async def reload() -> dict[str, Any]:
        if service.renew is None:
            raise Refusal(404, "this server keeps the weights it began with; start it with --reload")
        await asyncio.to_thread(desk.renew, service.renew)
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_card(service)]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        _is_ours(service, name)
        return _card(service)


def _card(service: Service) -> dict[str, Any]:
    return {
        "id": service.name, "object": "model", "created": service.begun, "owned_by": "posttrain",
        "max_model_len": service.desk.context, "weights": service.weights,
    }  # fmt: skip


def _feedback_route(app: FastAPI, service: Service) -> None:
    @app.post("/v1/feedback")
    async def opinion(said: wire.Feedback) -> dict[str, Any]:
        if service.log is None:
            raise Refusal(404, "this server keeps no feedback; start it with --feedback FOLDER")
        try:
            kept, new = await asyncio.to_thread(service.log.add, said)
        except feedback.Unknown as error:
            raise Refusal(404, str(error), param="completion_id", code="completion_not_found") from None
        except UserError as error:
            raise Refusal(400, str(error)) from None
        if new:
            service.metrics.count("feedback_total", kind=said.kind)
        return {"id": kept.id, "object": "feedback", "completion_id": kept.completion_id, "recorded": new}


def _is_ours(service: Service, name: str) -> None:
    if name and name != service.name:
        raise Refusal(
            404, f"there is no model {name!r} here, only {service.name!r}", param="model", code="model_not_found"
        )


def _conversation(service: Service, messages: list[Message]) -> tuple[int, ...]:
    try:
        return tuple(service.desk.chat.prompt(messages))
    except (UserError, ValueError) as error:  # the template's own complaint, or no question at the end
        raise Refusal(400, str(error), param="messages") from None


def _tokens(service: Service, prompt: str | list[int]) -> tuple[tuple[int, ...], str]:
    """(ids, text) of a plain prompt. An empty one is the token that texts begin with."""
    chat = service.desk.chat
    if isinstance(prompt, str):
        first = chat.tokenizer.bos_token_id
        ids = chat.tokenizer(prompt).input_ids or [chat.stop_ids[-1] if first is None else first]
        return tuple(ids), prompt
    vocabulary = service.desk.hf.get_input_embeddings().weight.shape[0]
    if wrong := [i for i in prompt if not 0 <= i < vocabulary]:
        raise Refusal(400, f"token id {wrong[0]} is outside the vocabulary of {vocabulary:,}", param="prompt")
    return tuple(prompt), chat.decode(prompt)


async def _answer(
    service: Service, http: Http, asked: Any, prompts: list[tuple[tuple[int, ...], str]], remembered: tuple[Any, ...]
) -> Response:
    """Submit, then answer whole or as a stream."""
    request = Request(service.desk, asked, prompts)
    try:
        request.submit()
    except Busy:
        raise Refusal(429, "too many answers are waiting; try again soon", code="overloaded") from None
    except UserError as error:
        raise Refusal(400, str(error), code="context_length_exceeded") from None
    service.metrics.count("prompt_tokens_total", request.prompt_tokens)
    id = ("chatcmpl-" if request.chat else "cmpl-") + secrets.token_hex(12)
    finish = _finisher(service, request, id, remembered)
    if asked.stream:
        return StreamingResponse(_stream(service, request, id, finish), media_type="text/event-stream", headers=STREAM)
    if not await _whole(http, request):
        service.metrics.count("cancelled_total", request.cancel())
        return Response(status_code=499)
    finish()
    kind = "chat.completion" if request.chat else "text_completion"
    choices = [request.choice(n) for n in range(len(request.answers))]
    return JSONResponse(wire.envelope(kind, id, service.name, choices) | {"usage": request.usage()})


async def _whole(http: Http, request: Request) -> bool:
    """Wait for every answer; False when the client has gone."""

    async def all_pieces() -> None:
        async for _ in request.pieces():
            pass

    work = asyncio.ensure_future(all_pieces())
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=0.5)
            if not work.done() and await http.is_disconnected():
                return False
        work.result()  # raises the engine's error
        return True
    finally:
        work.cancel()


async def _stream(service: Service, request: Request, id: str, finish: Callable[[], None]) -> AsyncIterator[str]:
    """Server-sent events. A client that goes away cancels its answers; an error is the last event."""
    kind = "chat.completion.chunk" if request.chat else "text_completion"
    options = request.asked.stream_options
    counts = {"usage": None} if options and options.include_usage else {}
    begun: set[int] = set()
    try:
        async for n, piece in request.pieces():
            choice = request.chunk(n, piece, begins=n not in begun)
            begun.add(n)
            yield _event(wire.envelope(kind, id, service.name, [choice]) | counts)
        finish()
        if counts:
            yield _event(wire.envelope(kind, id, service.name, []) | {"usage": request.usage()})
        yield "data: [DONE]\n\n"
    except Exception as error:
        yield _event(_broken(error).body())
    finally:
        if gone := request.cancel():
            service.metrics.count("cancelled_total", gone)


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _finisher(service: Service, request: Request, id: str, remembered: tuple[Any, ...]) -> Callable[[], None]:
    """What happens when every answer is there: counts, and memory for feedback."""

    def finish() -> None:
        now, metrics = time.perf_counter(), service.metrics
        metrics.count("completion_tokens_total", request.drawn)
        metrics.observe("first_token_seconds", request.first - request.begun)
        metrics.observe("request_seconds", now - request.begun)
        if service.log and remembered:
            answers = tuple(a.text for a in request.answers)
            service.log.remember(
                feedback.Served(id=id, prompt=remembered, answers=answers, model=service.name, weights=service.weights)
            )

    return finish


class Guard:
    """The key, and a count of every request. Plain ASGI, so that streams and disconnections pass untouched."""

    def __init__(self, app: Any, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                path = scope["path"] if status not in (404, 405) else "other"
                self.service.metrics.count("requests_total", path=path, status=status)
            await send(message)

        if scope["path"] in OPEN or self._may(Http(scope).headers.get("authorization", "")):
            await self.app(scope, receive, counted)
        else:
            refusal = _shown(Refusal(401, "a wrong or missing API key", code="invalid_api_key"))
            await refusal(scope, receive, counted)

    def _may(self, given: str) -> bool:
        key = self.service.key
        return not key or hmac.compare_digest(given.removeprefix("Bearer ").encode(), key.encode())


def _errors(app: FastAPI) -> None:
    """Every error leaves in OpenAI's shape."""

    @app.exception_handler(Refusal)
    async def refused(_: Http, error: Refusal) -> Response:
        return _shown(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Http, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(x) for x in first["loc"][1:] if isinstance(x, int) or x in wire.FIELDS)
        what = str(first["msg"]).removeprefix("Value error, ")
        nothing = first["loc"] == ("body",) and not isinstance(first.get("input"), dict)
        if first["type"] == "json_invalid" or nothing:
            where, what = "", "the body is not a JSON object (content-type: application/json)"
        return _shown(Refusal(400, f"{where}: {what}" if where else what, param=where or None))

    @app.exception_handler(HTTPException)
    async def http_error(http: Http, error: HTTPException) -> Response:
        return _shown(Refusal(error.status_code, f"{http.method} {http.url.path}: {error.detail}"))

    @app.exception_handler(Exception)
    async def broken(_: Http, error: Exception) -> Response:
        return _shown(_broken(error))

    @app.exception_handler(UserError)
    async def user_error(_: Http, error: UserError) -> Response:
        return _shown(_broken(error))


def _broken(error: Exception) -> Refusal:
    """An error of ours: people see its kind; UserErrors say what is wrong in words."""
    text = str(error) if isinstance(error, UserError) else f"the server failed ({type(error).__name__})"
    return Refusal(500, text)


def _shown(refusal: Refusal) -> Response:
    headers = {"retry-after": "1"} if refusal.status == 429 else {}
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=headers)


def weights_of(folder: Path) -> str:
    """The fingerprint of the stage that made a model, '' for a model from elsewhere."""
    for place in (folder, folder.parent):
        with suppress(UserError):
            return Record.read(place).fingerprint
    return ""


def load(
    model: str, *, name: str, slots: int, queue: int, log: Path | None, key: str, reload: bool = False
) -> Service:  # fmt: skip
    """Weights in memory, the engine running. reload: POST /v1/reload reads them anew. Raises UserError."""
    from posttrain.loading import load_model
    from posttrain.locate import model_folder
    from posttrain.pipeline import Runtime
    from posttrain.render import load_chat

    folder = model_folder(model)
    desk = Desk(load_model(folder, Runtime(), train=False), load_chat(folder), slots=slots, queue=queue)
    kept = feedback.Log(log) if log else None

    def renew() -> None:
        desk.hf.load_state_dict(load_model(folder, Runtime(), train=False).hf.state_dict())

    again = renew if reload else None
    return Service(desk, name or Path(model).name or model, kept, key=key, weights=weights_of(folder), renew=again)


def run(service: Service, listener: socket.socket) -> None:
    """Serve until Ctrl-C."""
    print(f"serving {service.name} at {listen.opened(listener)}/v1   (Ctrl-C ends)", flush=True)
    listen.serve(create(service), listener, timeout_graceful_shutdown=5)
