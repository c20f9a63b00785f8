"""Who works on a stage of a shared store: a small object with host, process, time and a heartbeat.

A lease whose heartbeat has stopped for STALE seconds is taken over, with a sentence. Clocks may differ by less than
STALE; an old-looking lease is also watched for a beat before it is taken. A process that lost its lease notices and
publishes nothing. Left out on purpose: waiting in a queue. Two machines that take over one stale lease within the same
second, on a store that cannot create a file exclusively, are told apart by reading back what was written.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from posttrain.errors import UserError
from posttrain.progress import clock
from posttrain.remote.bucket import Bucket, tried

BEAT = float(os.environ.get("POSTTRAIN_HEARTBEAT", "30"))  # seconds between signs of life
STALE = 10  # beats without one, and the lease is anybody's


class Lease:
    """Held from `take` until `end`; a thread keeps it alive."""

    def __init__(self, bucket: Bucket, path: str, body: dict[str, Any]):
        self.bucket, self.path, self.body = bucket, path, body
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beats, daemon=True)
        self.thread.start()

    def _beats(self) -> None:
        while not self.over.wait(BEAT):
            try:
                if self.mine():
                    self.bucket.write(self.path, _text(self.body | {"beat": time.time()}))
            except Exception:  # a network that is away: `check` decides, when it matters
                continue

    def mine(self) -> bool:
        other = _read(self.bucket, self.path)
        return other is not None and other["token"] == self.body["token"]

    def check(self) -> None:
        """UserError when the lease is no longer ours."""
        if not self.mine():
            other = _read(self.bucket, self.path)
            raise UserError(
                f"{_who(other) if other else 'another run'} has taken this stage over, since this process was not "
                "heard of for long; what it made is not published", where=f"{self.bucket.url}/{self.path}",
                remedy="run the same command again, it takes what the other one publishes",
            )  # fmt: skip

    def end(self) -> None:
        self.over.set()
        self.thread.join(timeout=BEAT)
        try:
            if self.mine():
                self.bucket.remove(self.path)
        except Exception:  # the store is away: the lease runs out by itself
            return


def take(bucket: Bucket, path: str, mirror: str, say: Callable[[str], None]) -> Lease:
    """The lease, or UserError when somebody else has it.

    mirror: name of the local copy of the run. Who calls holds a local lock on the stage there, so that a lease of the
    same mirror belongs to a process that is no more.
    """
    body = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "mirror": mirror}
    body |= {"beat": time.time(), "token": uuid.uuid4().hex}
    for _ in range(5):
        other = _read(bucket, path)
        if other is not None:
            if other["mirror"] != mirror:
                _wait_or_refuse(bucket, path, other, say)
            bucket.remove(path)
        if tried(lambda: bucket.create(path, _text(body))):
            found = _read(bucket, path)
            if found and found["token"] == body["token"]:
                return Lease(bucket, path, body)
    raise UserError("another run was faster", where=f"{bucket.url}/{path}", remedy="wait for it")


def _wait_or_refuse(bucket: Bucket, path: str, other: dict[str, Any], say: Callable[[str], None]) -> None:
    """Returns when the lease is stale; raises when its owner lives."""
    silent = time.time() - other["beat"]
    if silent > BEAT * STALE:
        time.sleep(1.5 * BEAT)
        again = _read(bucket, path)
        if again is None or again == other:
            long = clock(silent) if other["beat"] else "long"
            say(f"{_who(other)} has not been heard of for {long}; its stage is taken over")
            return
    raise UserError(
        f"{_who(other)} is working on this stage", where=f"{bucket.url}/{path}",
        remedy=f"wait for it; if it is no more, its claim runs out {clock(BEAT * STALE)} after its last sign of life",
    )  # fmt: skip


def _who(body: dict[str, Any]) -> str:
    return f"{body['host']} (process {body['pid']}, since {time.strftime('%H:%M', time.localtime(body['since']))})"


def _read(bucket: Bucket, path: str) -> dict[str, Any] | None:
    """A lease as it stands, None when there is none. Half of one is read again: it is being written, or was left so."""
    for _ in range(4):
        data = bucket.read(path)
        if data is None:
            return None
        try:
            found: dict[str, Any] = json.loads(data)
            return {"host": "?", "pid": 0, "since": 0.0, "beat": 0.0, "mirror": "", "token": ""} | found
        except (ValueError, TypeError):
            time.sleep(0.2)
    return {"host": "an unknown machine", "pid": 0, "since": 0.0, "beat": 0.0, "mirror": "", "token": ""}


def _text(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
