"""A time limit on Python functions of the user's own (rewards, environments) that run in this process.

Left out on purpose: threads (libraries that set alarms refuse to run in them), programs nobody has read (sandbox.py).
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside the block after so many seconds, by an alarm. Where there are none (another thread than
    the main one, Windows), or a library inside sets its own, there is no limit."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
