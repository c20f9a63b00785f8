"""The hashes of a chain of events, for the database (events.py) and for a snapshot in a folder (feedback/frozen.py).

    hash = SHA-256(previous + canonical JSON of {number, project, kind, at, person, body}); the first previous: 64 zeros

Left out on purpose: SQLAlchemy, so that lineage is checked without the extra `label`.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from posttrain.rows import canonical
from posttrain.store.rows import Event

ZERO = "0" * 64  # what the first event names as the one before it


def link(number: int, project: str, kind: str, at: float, person: str, body: dict[str, Any], previous: str) -> Event:
    """The event with its hash."""
    rest = {"number": number, "project": project, "kind": kind, "at": at, "person": person, "body": body}
    return Event.model_validate(rest | {"previous": previous, "hash": _hash(previous, rest)})


def expected(event: Event) -> str:
    """The hash that an event should have."""
    return _hash(event.previous, event.model_dump(mode="json", exclude={"previous", "hash"}))


def _hash(previous: str, rest: dict[str, Any]) -> str:
    return hashlib.sha256((previous + canonical(rest)).encode()).hexdigest()


def digest_of(bodies: Iterable[str]) -> str:
    """SHA-256 of items' canonical JSON lines: what the event of an import names."""
    whole = hashlib.sha256()
    for body in bodies:
        whole.update(body.encode() + b"\n")
    return whole.hexdigest()
