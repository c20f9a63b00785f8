"""The gate: two reports and rules in, a decision with its reasons out. Stages behind it run only when it passes.

Left out on purpose: the decision itself (gates.py, pure). Importing this file does not import torch.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from posttrain import gates
from posttrain.errors import UserError, nearest
from posttrain.evals import runner, task
from posttrain.gates import Decision, Report, Rule, Scored
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage, Verdict, write_text
from posttrain.rows import Item, read_jsonl


class Gate(Stage):
    """candidate, baseline: reports to compare. noise: a second report of the baseline, which shows how much two runs
    of one model differ. rules: see gates.Rule, e.g. {metric: arithmetic.accuracy, no_worse_than: 0.02}."""

    makes: ClassVar[Kind] = "decision"

    type: Literal["gate"] = "gate"
    candidate: Annotated[str, Ref("report")]
    baseline: Annotated[str, Ref("report")]
    noise: Annotated[str | None, Ref("report")] = None
    rules: tuple[Rule, ...] = Field(min_length=1)

    def fits(self, sources: Mapping[str, tuple[Stage, ...]]) -> None:
        """Every rule's metric must be one of single items, of a suite that both reports hold."""
        for edge in ("candidate", "baseline"):
            suites = getattr(sources[edge][0], "suites", None)
            known = {task.called(name): name for name in suites or ()} | {name: name for name in task.TAKEN}
            for n, rule in enumerate(self.rules if suites is not None else ()):
                suite, _, short = rule.metric.rpartition(".")  # a file's name may hold dots
                where = f"rules.{n}.metric"
                if suite not in known:
                    what = f"{getattr(self, edge)!r} evaluates no suite {suite!r}, so it has no metric {rule.metric!r}"
                    raise UserError(what, where=where, remedy=nearest(suite, known))
                metrics = runner.metrics_of(known[suite])
                if short not in metrics:
                    what = f"items of {suite!r} have no metric {short!r}, so no rule can rest on it"
                    raise UserError(what, where=where, remedy=nearest(short, metrics))
                if rule.bar is not None and metrics[short] is None:
                    what = f"{rule.metric!r} has no better direction, so no rule can rest on it"
                    raise UserError(what, where=where, remedy="another metric")

    def forecast(self, baseline: Stage) -> list[str]:
        """What the rules can find at all, from the suites that the baseline will be asked: before anything runs.

        At best: items that share a cluster are worth fewer, which shows when there are answers.
        """
        names, limit = getattr(baseline, "suites", ()), getattr(baseline, "limit", None)
        counts = counted(tuple((name, task.file_digest(task.find(name))) for name in names), limit)
        at_best = ((rule, counts[rule.metric]) for rule in self.rules if rule.bar is not None and rule.metric in counts)
        return [gates.can_find(rule, f"{n} items at best", n) for rule, n in at_best]

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        baseline = read_report(inputs.one("baseline"))
        again = inputs.many("noise")
        noise = read_report(again[0]) if again else None
        for line in gates.foresee(self.rules, baseline, noise):
            runtime.progress.say(f"  before comparing: {line}")
        decision = gates.decide(read_report(inputs.one("candidate")), baseline, self.rules, noise)
        for reason in decision.reasons:
            runtime.progress.say(f"  {reason}")
        unmatched = len(decision.only_candidate) + len(decision.only_baseline)
        if unmatched:
            runtime.progress.say(f"  {unmatched} items are in one report only and were left out")
        runtime.progress.say(f"  verdict: {decision.verdict}")
        write_text(out / "decision.json", json.dumps(decision.model_dump(mode="json"), indent=2) + "\n")
        differences = {f"{r.rule.metric}.difference": r.compared.difference for r in decision.results if r.compared}
        return differences | {"exit_code": float(decision.exit_code), "unmatched": float(unmatched)}

    def verdict(self, out: Path) -> Verdict:
        return Decision.model_validate_json((out / "decision.json").read_text()).verdict


@cache
def counted(suites: tuple[tuple[str, str], ...], limit: int | None) -> dict[str, int]:
    """Metric -> how many items of (suite, its file's digest) will have it, if it calls an item right or wrong.

    Which ones do is seen from made-up answers, no two of which are alike.
    """
    values: dict[str, list[float]] = {}
    for one in (task.load(name, limit) for name, _ in suites):
        made = [_made_up(n, one, item) for n, item in enumerate(one.items)]
        for scored in runner.score([one], made):
            for name, value in scored.metrics.items():
                values.setdefault(name, []).append(value if name not in scored.weights else 0.5)
    return {name: len(found) for name, found in values.items() if set(found) <= {0.0, 1.0}}


def _made_up(n: int, one: task.Task, item: Item) -> task.Done:
    if one.scoring.GENERATES:
        text = "good " * (4 * (n % 3)) + f"well well well {n}"
        return task.Done(id=item.id, suite=one.name, text=text, ended="stop", logps=(-1.0 - n,), counts=(1,))
    count = len(one.scoring.question(item)[1])
    return task.Done(id=item.id, suite=one.name, logps=tuple(-1.0 - k for k in range(count)), counts=(1,) * count)


def read_report(folder: Path) -> Report:
    """The parts of a report artefact that the gate needs."""
    path = folder / "summary.json"
    if not path.exists():
        raise UserError("this is not an evaluation report: it has no summary.json", where=str(folder))
    summary = json.loads(path.read_text(encoding="utf-8"))
    better = {name: metric["higher_is_better"] for name, metric in summary["metrics"].items()}
    suites = {name: suite["digest"] for name, suite in summary["suites"].items()}
    return Report(tuple(read_jsonl(folder / "items.jsonl", Scored)), better, summary["judge"], suites)
