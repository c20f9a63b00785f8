"""Does the model know how sure it may be? Multiple choice by log-likelihood; its shares of the choices are read as
probabilities.

Item: {"context", "choices", "correct"}. accuracy: the likeliest choice is right; brier: sum over choices of (share -
right)^2, from 0 to 2 (Brier 1950). Over all items: ece, and covered: mean accuracy over all shares of questions it
could have dared to answer, the most confident first. The curve itself is in the table.
"""

from collections.abc import Mapping, Sequence
from math import exp
from typing import TYPE_CHECKING, Any

from posttrain.evals.suites.capability import problem as choices_problem
from posttrain.evals.suites.capability import question

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.gates import Scored
    from posttrain.rows import Item
    from posttrain.stats import Interval

__all__ = ["GENERATES", "METRICS", "derived", "problem", "question", "score", "tables"]

METRICS: dict[str, bool | None] = {"accuracy": True, "brier": False, "confidence": None}
DERIVED: dict[str, bool | None] = {"ece": False, "covered": True}
GENERATES = False


def problem(item: "Item") -> str:
    return choices_problem(item) if "choices" in (item.model_extra or {}) else "needs context, choices and correct"


def score(item: "Item", done: "Done") -> "Scores":
    top = max(done.logps)
    weights = [exp(logp - top) for logp in done.logps]
    shares = [w / sum(weights) for w in weights]
    best = max(range(len(shares)), key=shares.__getitem__)
    brier = sum((share - (n == item.correct)) ** 2 for n, share in enumerate(shares))
    return {"accuracy": float(best == item.correct), "brier": brier, "confidence": shares[best]}


def derived(scored: "Sequence[Scored]") -> "dict[str, tuple[Interval, bool | None]]":
    """ece and covered with their intervals."""
    from posttrain import stats
    from posttrain.evals import calibrate

    columns, clusters = _columns([s.metrics for s in scored], scored[0].suite), [s.cluster for s in scored]
    measures = {"ece": calibrate.ece, "covered": calibrate.area}
    found = {
        name: stats.with_interval(fn, *columns, clusters=clusters, draws=calibrate.DRAWS)
        for name, fn in measures.items()
    }
    return {name: (value, DERIVED[name]) for name, value in found.items()}


def tables(items: "Sequence[Item]", scores: "Sequence[Mapping[str, float]]") -> dict[str, Any]:
    """curve: [coverage, accuracy of what is answered], the most confident first."""
    from posttrain.evals import calibrate

    return {"curve": calibrate.curve(*_columns(scores))}


def _columns(metrics: "Sequence[Mapping[str, float]]", suite: str = "") -> tuple[list[float], list[float]]:
    dot = f"{suite}." if suite else ""
    return [m[f"{dot}confidence"] for m in metrics], [m[f"{dot}accuracy"] for m in metrics]
