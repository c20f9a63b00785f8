"""Side by side: a judge says whose answers are better, question by question, in both orders.

It reads what two evaluations kept, so nothing is sampled again. The judge is one with a card, or the rules of the
constitution. Left out on purpose: the comparison (evals/side.py). Importing this file does not import torch.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from posttrain import constitution as constitutions
from posttrain.errors import UserError
from posttrain.evals import side, task
from posttrain.evals.task import Done
from posttrain.gates import Scored
from posttrain.judge import critic as critics
from posttrain.judge.base import Answered, Rule
from posttrain.judge.llm import Comparer
from posttrain.judge.principles import Draft
from posttrain.pipeline import Inputs, Kind, Metrics, Record, Ref, Runtime, Stage, write_text
from posttrain.rows import read_jsonl, write_jsonl
from posttrain.stages.constitution import rules_digest
from posttrain.stats import Interval


class SideBySide(Stage):
    """candidate, baseline: reports on the same suites. judge: a judge with its card; without one the rules of the
    constitution judge, which see the surface alone. suites: some of the reports' suites, all if not set."""

    makes: ClassVar[Kind] = "report"

    type: Literal["side_by_side"] = "side_by_side"
    candidate: Annotated[str, Ref("report")]
    baseline: Annotated[str, Ref("report")]
    judge: Annotated[str | None, Ref("judge")] = None
    constitution: str = "general"
    suites: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)

    places: ClassVar[frozenset[str]] = frozenset({"constitution"})

    def identity(self) -> dict[str, str]:
        return {"constitution": constitutions.identity(self.constitution), "rules": rules_digest()}

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        here, there = inputs.one("candidate"), inputs.one("baseline")
        tasks = [task.load(name, self.limit) for name in common(here, there, self.suites)]
        same_questions(tasks, here, there)
        kept = [list(read_jsonl(folder / "samples.jsonl", Done)) for folder in (here, there)]
        rows = side.duels(tasks, *kept)
        if not rows:
            raise UserError("the two reports answered no question in common", where=f"{here.name}, {there.name}")
        items = {(t.name, i.id): i.model_extra or {} for t in tasks for i in t.items}
        truth = [dict(items[row.suite, row.id]) for row in rows]
        rows = asyncio.run(side.judge(rows, self._comparer(inputs, out, runtime), truth))
        write_jsonl(out / "duels.jsonl", rows)
        found = side.outcome(rows)
        write(out, rows, found, self._name(inputs))
        runtime.progress.say(
            f"  wins {found.win.value:.3f} [{found.win.low:.3f}, {found.win.high:.3f}], at equal length "
            f"{found.at_equal_length.value:.3f}; {found.ties} ties, {found.undecided} undecided"
        )
        return {
            "win": found.win.value, "at_equal_length": found.at_equal_length.value, "consistent": found.consistent,
            "ties": float(found.ties), "undecided": float(found.undecided), "items": float(len(rows)),
        }  # fmt: skip

    def _comparer(self, inputs: Inputs, out: Path, runtime: Runtime) -> Comparer:
        if folders := inputs.many("judge"):
            from posttrain.stages import judge as judges

            return judges.load(folders[0], out / "replies.db", runtime)[0]
        rules = critics.Rules(constitutions.load(self.constitution))

        def score(answered: Answered) -> float:
            return rules.score(Draft(prompt=answered.prompt, answer=answered.answer, truth=answered.truth))

        return side.ByScore(Rule(score), "rules")

    def _name(self, inputs: Inputs) -> str:
        return inputs.many("judge")[0].name if inputs.many("judge") else f"rules of {self.constitution}"


def common(here: Path, there: Path, wanted: Sequence[str]) -> list[str]:
    """Suites that both reports were asked, in the candidate's order; UserError for a wanted one that is missing."""
    mine, other = (list(Record.read(folder).knobs.get("suites", ())) for folder in (here, there))
    shared = [name for name in mine if name in other]
    if missing := [name for name in wanted if name not in shared]:
        raise UserError(f"the suite {missing[0]!r} is not in both reports", remedy=f"both have {', '.join(shared)}")
    return [name for name in shared if not wanted or name in wanted]


def same_questions(tasks: Sequence[task.Task], *reports: Path) -> None:
    """UserError when a suite has changed since a report was made: its answers belong to other questions."""
    for folder in reports:
        path = folder / "summary.json"
        told = json.loads(path.read_text(encoding="utf-8"))["suites"] if path.exists() else {}
        for one in tasks:
            if (digest := told.get(one.name, {}).get("digest", one.digest)) != one.digest:
                raise UserError(
                    f"the suite {one.name!r} has changed since this report was made ({digest}, now {one.digest})",
                    where=folder.name, remedy="evaluate again",
                )  # fmt: skip


def write(out: Path, rows: Sequence[side.Duel], found: side.Outcome, judge: str) -> None:
    """items.jsonl and summary.json as any report has them."""
    told = [row for row in rows if row.p is not None]
    items = (
        Scored(id=r.id, suite=r.suite, cluster=r.cluster, prompt="", metrics={"side.win": r.p or 0.0}) for r in told
    )
    write_jsonl(out / "items.jsonl", items)
    write_jsonl(out / "samples.jsonl", (Done(id=r.id, suite=r.suite, text=r.candidate, ended="stop") for r in rows))
    metrics = {"side.win": _shown(found.win), "side.win_at_equal_length": _shown(found.at_equal_length)}
    summary: dict[str, Any] = {"metrics": metrics, "suites": {}, "judge": judge}
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")


def _shown(found: Interval) -> dict[str, Any]:
    return {"value": found.value, "n": found.n, "low": found.low, "high": found.high, "higher_is_better": True}
