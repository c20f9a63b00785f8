"""A socket to serve on, and uvicorn on it in one process or several, for `posttrain serve` and `posttrain label`.

Left out on purpose: TLS and names of sites (a reverse proxy has them), and reloading.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from posttrain.errors import UserError

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A socket bound before anything else is done, so that a port in use costs nothing. Port 0: a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol is named because asyncio sends small packets at once (TCP_NODELAY) only where it is: without it the
    # second half of an answer waits up to 40 ms for the client's acknowledgement of the first
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            remedy="another --port (0 takes a free one) or --host",
        ) from None
    return listener


def opened(listener: socket.socket) -> str:
    """Takes connections from here on (they wait until the program serves); http://host:port as people can type it."""
    listener.listen(BACKLOG)
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def local(listener: socket.socket) -> bool:
    """Can this machine alone reach it?"""
    return listener.getsockname()[0] in ("127.0.0.1", "::1")


def serve(app: Any, listener: socket.socket, **options: Any) -> None:
    """Until Ctrl-C. options: uvicorn's."""
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, log_level="warning", **options)).run(sockets=[listener])


def serve_many(make: Callable[[], Any], listener: socket.socket, workers: int, **options: Any) -> None:
    """Several processes take connections from one socket, each with the application that make(), which can be pickled,
    returns there. One that dies is replaced; when this process ends, by whatever signal, they end too.
    """
    spawn = multiprocessing.get_context("spawn")

    def begun() -> Any:
        process = spawn.Process(target=_worker, args=(make, listener, options), daemon=True)
        process.start()
        return process

    # not by way of SIGINT, which a shell lets programs in the background ignore
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = [begun() for _ in range(workers)]
    try:
        while True:
            wait([process.sentinel for process in running])
            time.sleep(1)  # one that cannot even start must not keep the machine busy
            running = [process if process.is_alive() else begun() for process in running]
    except KeyboardInterrupt:
        for process in running:
            process.terminate()
        for process in running:
            process.join(10)


def _worker(make: Callable[[], Any], listener: socket.socket, options: dict[str, Any]) -> None:
    def orphaned() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=orphaned, daemon=True).start()
    serve(make(), listener, **options)
