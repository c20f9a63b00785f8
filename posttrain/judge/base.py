"""What a judge is: anything that scores a batch of answers. Rules, models and people share this one verb.

Left out on purpose: caching, retries and rates of remote judges; they belong to the judge that needs them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from posttrain.rows import Messages, Row, Verdict


class Answered(Row):
    """An answer to judge. truth holds what a right answer is: the extra fields of a suite item, or nothing."""

    prompt: Messages = ()
    answer: str
    truth: Mapping[str, Any] = {}


class Judge(Protocol):
    """`score` gives one Verdict per item, in order; a score of None means the judge abstained."""

    async def score(self, items: Sequence[Answered]) -> list[Verdict]: ...


@dataclass(frozen=True)
class Rule:
    """A pure function as a judge: `Rule(lambda a: float(not is_refusal(a.answer)))`."""

    verdict: Callable[[Answered], float | None]

    async def score(self, items: Sequence[Answered]) -> list[Verdict]:
        return [Verdict(score=self.verdict(item)) for item in items]
