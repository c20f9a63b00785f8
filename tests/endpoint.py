"""A small HTTP server that speaks as much of the OpenAI protocol as a script tells it to, for tests of clients.

Left out on purpose: a model.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[str, dict[str, Any] | None, int], Any]  # (path, body, number of the request) -> what to answer


class Raw:
    """An answer that is not a JSON body with status 200."""

    def __init__(self, status: int = 200, text: str = "", headers: dict[str, str] | None = None, delay: float = 0.0):
        self.status, self.text, self.headers, self.delay = status, text, headers or {}, delay


class Endpoint:
    """url, and everything that was asked: (seconds, path, body, headers). at_once: most requests at one time."""

    def __init__(self, script: Script):
        self.asked: list[tuple[float, str, Any, dict[str, str]]] = []
        self.at_once = self._now = 0
        lock, endpoint = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def answer(self, body: Any) -> None:
                with lock:
                    number = len(endpoint.asked)
                    endpoint.asked.append((time.monotonic(), self.path, body, dict(self.headers)))
                    endpoint._now += 1
                    endpoint.at_once = max(endpoint.at_once, endpoint._now)
                try:
                    said = script(self.path, body, number)
                    raw = said if isinstance(said, Raw) else Raw(text=json.dumps(said))
                    time.sleep(raw.delay)
                    data = raw.text.encode()
                    self.send_response(raw.status)
                    for name, value in {"content-length": str(len(data)), **raw.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client has gone
                finally:
                    with lock:
                        endpoint._now -= 1

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def endpoint(script: Script) -> Iterator[Endpoint]:
    made = Endpoint(script)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def chat(text: str, tops: list[dict[str, float]] | None = None, drawn: str | None = None) -> dict[str, Any]:
    """A chat answer; tops: log-probabilities of the alternatives at each place."""
    content = [
        {"token": drawn or max(top, key=top.__getitem__), "logprob": max(top.values()),
         "top_logprobs": [{"token": t, "logprob": v} for t, v in top.items()]}
        for top in tops or []
    ]  # fmt: skip
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
                     "logprobs": {"content": content} if tops is not None else None}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
    }  # fmt: skip
