"""Calls to OpenAI-compatible servers: several at once, at a rate, with time limits, again after what may pass.

Errors that will not pass (a wrong key, an unknown model, a bad request) end at once; refused connections, stalls,
429, 5xx and answers that are no JSON are tried again with growing pauses, on another server where there is one.
Left out on purpose: streaming, and what is asked (server.py).
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from posttrain.errors import UserError

PASSING = (408, 409, 425, 429)  # and everything from 500
LONGEST_PAUSE = 30.0  # seconds


class Unanswered(UserError):
    """A server gave no usable answer after every try."""


class Passing(Exception):
    """One try failed in a way that may pass. after: seconds the server asked to wait."""

    def __init__(self, why: str, after: float = 0.0):
        self.after = after
        super().__init__(why)


class Client:
    """POST and GET of JSON to one of several equal servers.

    urls: each up to and with /v1.  concurrent: requests in flight.  rate: requests begun a second, 0 for no limit.
    timeout: seconds for a whole answer.  tries: in all.  pause: seconds before the second try, doubled after each.
    """

    def __init__(
        self, urls: Sequence[str], *, key: str = "", concurrent: int = 16, rate: float = 0.0, timeout: float = 120.0,
        tries: int = 5, pause: float = 0.5,
    ):  # fmt: skip
        if not urls:
            raise UserError("an endpoint needs an address", remedy="url: http://127.0.0.1:8000/v1")
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise UserError(f"{url!r} is no address of a server", remedy="url: http://127.0.0.1:8000/v1")
        self.urls, self.key, self.timeout, self.tries, self.pause = (
            [u.rstrip("/") for u in urls],
            key,
            timeout,
            tries,
            pause,
        )
        self.concurrent, self.rate = concurrent, rate
        self.retried = 0
        self._flying = dict.fromkeys(self.urls, 0)
        self._next = 0.0
        self._random = random.Random(0)  # of the pauses only

    def at(self, url: str) -> "Client":
        """The same client for one server alone, at another address."""
        return Client([url], key=self.key, timeout=self.timeout, tries=self.tries, pause=self.pause)

    @asynccontextmanager
    async def session(self) -> Any:
        """`async with client.session() as call:` then `await call("/completions", body)`. One event loop's worth."""
        try:
            import httpx
        except ModuleNotFoundError:
            raise UserError("talking to a server needs httpx", remedy="pip install 'posttrain[endpoint]'") from None
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=self.concurrent)
        gate = asyncio.Semaphore(self.concurrent)
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=self.timeout) as http:

            async def call(path: str, body: Mapping[str, Any] | None) -> Any:
                async with gate:
                    return await self._persist(http, path, body)

            yield call

    async def _persist(self, http: Any, path: str, body: Mapping[str, Any] | None) -> Any:
        why, url = "", ""
        failed: list[str] = []
        for n in range(self.tries):
            await self._turn()
            url = min(self.urls, key=lambda u: (failed.count(u), self._flying[u]))  # after a failure, another one first
            self._flying[url] += 1
            try:
                return await asyncio.wait_for(self._try(http, url + path, body), self.timeout)
            except (Passing, TimeoutError) as error:
                failed.append(url)
                why = str(error) or f"no answer within {self.timeout:g} s"
                pause = max(getattr(error, "after", 0.0), self.pause * 2**n * self._random.uniform(0.5, 1.5))
            finally:
                self._flying[url] -= 1
            if n + 1 < self.tries:
                self.retried += 1
                await asyncio.sleep(min(pause, LONGEST_PAUSE))
        raise Unanswered(f"no answer after {self.tries} tries: {why}", where=url)

    async def _try(self, http: Any, url: str, body: Mapping[str, Any] | None) -> Any:
        import httpx

        try:
            response = await (http.get(url) if body is None else http.post(url, json=body))
        except httpx.InvalidURL as error:
            raise UserError(f"{url!r} is no address: {error}") from None
        except httpx.HTTPError as error:
            raise Passing(f"{type(error).__name__} {error}".strip()) from None
        if response.status_code in PASSING or response.status_code >= 500:
            raise Passing(f"status {response.status_code}: {said(response.text)}", _after(response.headers))
        if response.status_code >= 300:
            bare = response.status_code == 404 and "/v1/" not in url
            remedy = "an address up to and with /v1, as http://127.0.0.1:8000/v1" if bare else ""
            raise UserError(f"status {response.status_code}: {said(response.text)}", where=url, remedy=remedy)
        try:
            found = json.loads(response.text)
        except ValueError:
            raise Passing(f"not JSON: {response.text[:60]!r}") from None
        if not isinstance(found, dict) or "error" in found:
            raise Passing(said(response.text))
        return found

    async def _turn(self) -> None:
        """Wait until the rate allows another request."""
        if self.rate > 0:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + 1.0 / self.rate
            await asyncio.sleep(begin - now)


def _after(headers: Mapping[str, str]) -> float:
    try:
        return min(LONGEST_PAUSE, max(0.0, float(headers.get("retry-after", 0))))
    except ValueError:
        return 0.0


def said(text: str) -> str:
    """The message of an error, whatever shape it has."""
    try:
        found = json.loads(text)
        error = found.get("error", found) if isinstance(found, dict) else found
        message = error.get("message", error) if isinstance(error, dict) else error
        return str(message)[:200]
    except ValueError:
        return text[:200]
