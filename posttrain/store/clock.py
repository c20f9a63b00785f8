"""Time that never runs backwards, so that a chain stays ordered and leases run out whatever the machine's clock does.

When the clock is set back, time ticks on from where it was, until the clock has caught up.
Left out on purpose: a clock that was set forward by mistake is believed, since nothing here can tell.
"""

import threading
from collections.abc import Callable


class Clock:
    """clock() -> seconds, never less than any before, nor than `start` (the latest time that a store has recorded)."""

    def __init__(self, wall: Callable[[], float], start: float = 0.0):
        self._wall, self._lock = wall, threading.Lock()
        self._seen = float(wall())
        self._time = max(self._seen, start)

    def __call__(self) -> float:
        with self._lock:
            seen = float(self._wall())
            self._time = max(seen, self._time + max(0.0, seen - self._seen))
            self._seen = seen
            return self._time

    def not_before(self, start: float) -> None:
        """Another process has recorded `start`: go on from there."""
        with self._lock:
            self._time = max(self._time, start)
