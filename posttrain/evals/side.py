"""Two models side by side on the same questions: whose answer is better, as often as a judge can tell.

Any judge will do: one that compares (judge/llm.py) is asked in both orders, one that scores single answers
(judge/base.py) is made to compare by `ByScore`. Equal answers are a tie and are not asked about.
Left out on purpose: sampling; both sides' answers were kept when they were evaluated.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from posttrain.errors import UserError
from posttrain.evals.task import Done, Task
from posttrain.judge.base import Answered, Judge
from posttrain.judge.llm import Compared, Comparer, Preferred
from posttrain.judge.winrate import win_rate
from posttrain.rows import Messages, Row, Verdict
from posttrain.stats import Interval


class Duel(Row):
    """One question with both answers, and P(the candidate's is better); None: the judge could not tell."""

    id: str
    suite: str
    cluster: str
    prompt: Messages
    candidate: str
    baseline: str
    p: float | None = None
    detail: dict[str, Any] = {}


class Outcome(NamedTuple):
    """win: mean P(candidate wins), ties half. at_equal_length: length controlled. consistent: same choice both ways."""

    win: Interval
    at_equal_length: Interval
    consistent: float
    undecided: int
    ties: int


class ByScore:
    """A judge of single answers as one that compares: the higher score wins, equal scores tie."""

    def __init__(self, judge: Judge, name: str):
        self.judge, self.name = judge, name

    async def compare(self, items: Sequence[Compared]) -> list[Preferred]:
        sides = [Answered(prompt=i.prompt, answer=i.first, truth=i.truth) for i in items]
        sides += [Answered(prompt=i.prompt, answer=i.second, truth=i.truth) for i in items]
        verdicts = await self.judge.score(sides)
        if len(verdicts) != len(sides):
            raise UserError(f"the judge gave {len(verdicts)} verdicts for {len(sides)} answers", where=self.name)
        return [_compared(a, b) for a, b in zip(verdicts[: len(items)], verdicts[len(items) :])]


def _compared(a: Verdict, b: Verdict) -> Preferred:
    if a.score is None or b.score is None:
        return Preferred(p=None, problems=("unanswered",))
    p = 0.5 + 0.5 * ((a.score > b.score) - (a.score < b.score))
    return Preferred(p=p, consistent=True, detail={"first": a.score, "second": b.score})


def duels(tasks: Sequence[Task], candidate: Sequence[Done], baseline: Sequence[Done]) -> list[Duel]:
    """The questions that both sides answered in words, in the suites' order."""
    here, there = ({(d.suite, d.id): d.text for d in side if d.ended} for side in (candidate, baseline))
    found = []
    for task in tasks:
        for item in task.items:
            key = (task.name, item.id)
            if item.messages and key in here and key in there:
                found.append(
                    Duel(id=item.id, suite=task.name, cluster=item.cluster, prompt=item.messages,
                         candidate=here[key], baseline=there[key])
                )  # fmt: skip
    return found


async def judge(rows: Sequence[Duel], comparer: Comparer, truth: Sequence[dict[str, Any]] | None = None) -> list[Duel]:
    """The duels with their p. truth: what the judge may know of each question."""
    open_ = [n for n, row in enumerate(rows) if row.candidate.strip() != row.baseline.strip()]
    known = truth or [{}] * len(rows)
    asked = [
        Compared(prompt=rows[n].prompt, first=rows[n].candidate, second=rows[n].baseline, truth=known[n]) for n in open_
    ]
    said = dict(zip(open_, await comparer.compare(asked), strict=True))
    same = Preferred(p=0.5, consistent=True, detail={"same": True})
    return [_told(row, said.get(n, same)) for n, row in enumerate(rows)]


def _told(row: Duel, said: Preferred) -> Duel:
    detail = said.detail | {"consistent": said.consistent} | ({"problems": said.problems} if said.problems else {})
    return row.model_copy(update={"p": said.p, "detail": detail})


def outcome(rows: Sequence[Duel]) -> Outcome:
    """The whole comparison. UserError when the judge could tell nothing at all."""
    told = [row for row in rows if row.p is not None]
    if not told:
        raise UserError("the judge could not tell a single pair of answers apart", remedy="see duels.jsonl for why")
    p = [row.p or 0.0 for row in told]
    longer = [len(row.candidate) - len(row.baseline) for row in told]
    rate = win_rate(p, longer, [(row.suite, row.cluster) for row in told])
    asked = [row for row in told if not row.detail.get("same")]
    consistent = sum(bool(row.detail.get("consistent")) for row in asked) / max(1, len(asked))
    return Outcome(rate.raw, rate.controlled, consistent, len(rows) - len(told), sum(x == 0.5 for x in p))
