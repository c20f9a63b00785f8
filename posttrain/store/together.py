"""Calls that arrive while another is being done are done together afterwards: one transaction, one wait for the disk.

Nobody waits for company: a call that finds nothing under way begins at once, so the groups grow with the load alone.
Left out on purpose: timers, threads of its own, limits; whoever calls waits, so a group holds no more than the callers.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")


class _Place(Generic[Job, Done]):
    """One caller's place in the queue."""

    def __init__(self, job: Job):
        self.job = job
        self.outcome: Done | BaseException | None = None


class Together(Generic[Job, Done]):
    """together(job) -> what `do_all` returned for it. An exception in place of a result is raised to its caller alone.

    do_all([job, ...]) -> a result, or an exception, for each. Where it raises, as for a database that is gone, all
    are told; it must have done nothing then.
    """

    def __init__(self, do_all: Callable[[Sequence[Job]], Sequence[Done | BaseException]]):
        self._do_all = do_all
        self._waiting: deque[_Place[Job, Done]] = deque()
        self._turn = threading.Lock()

    def __call__(self, job: Job) -> Done:
        mine: _Place[Job, Done] = _Place(job)
        self._waiting.append(mine)
        with self._turn:
            if mine.outcome is None:  # nobody before took it along
                self._do([self._waiting.popleft() for _ in range(len(self._waiting))])
        if isinstance(mine.outcome, BaseException):
            raise mine.outcome
        assert mine.outcome is not None
        return mine.outcome

    def _do(self, group: list[_Place[Job, Done]]) -> None:
        try:
            outcomes = self._do_all([place.job for place in group])
        except BaseException as error:
            outcomes = [error] * len(group)
        for place, outcome in zip(group, outcomes, strict=True):
            place.outcome = outcome
