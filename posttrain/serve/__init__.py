"""A model behind the OpenAI protocol: chat, completions, log-probabilities, and feedback that becomes rows.

engine.py draws tokens on one thread for all requests at once, wire.py holds the protocol's shapes, app.py joins them
over HTTP, feedback.py keeps what people say of the answers. Left out on purpose: several models in one process, tools,
images, TLS and accounts (put a proxy in front).
"""

from pathlib import Path

from posttrain.errors import UserError


def start(
    model: str, *, host: str, port: int, key: str = "", name: str = "", slots: int = 16, queue: int = 1024,
    log: Path | None = None, reload: bool = False,
) -> None:  # fmt: skip
    """Load a model and serve it until Ctrl-C. Raises UserError when it cannot."""
    from posttrain import listen
    from posttrain.locate import model_folder

    if not key and host not in ("127.0.0.1", "localhost", "::1"):
        print(f"anybody who reaches {host} can use this model; --api-key asks for a key", flush=True)
    with listen.bind(host, port) as listener:  # first, because everything below takes its time
        model_folder(model)
        try:
            from posttrain.serve import app
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("fastapi", "starlette", "uvicorn"):
                raise
            raise UserError(f"serving needs {error.name}", remedy="pip install 'posttrain[serve]'") from None
        service = app.load(model, name=name, slots=slots, queue=queue, log=log, key=key, reload=reload)
        app.run(service, listener)
