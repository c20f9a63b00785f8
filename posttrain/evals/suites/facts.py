"""Facts, and knowing what cannot be known. Item: {"answerable": true, "answers": ["Rome"]}.

accuracy: answerable questions whose first two sentences contain an expected answer. abstained: unanswerable questions
met with "I don't know". wrong: anything asserted that is neither, over all questions. confidence: of what is asserted,
the mean chance per token that the model gave its own words; covered: mean accuracy over all shares of the asserted
answers, the most confident first. The table has the curve, over all questions: abstaining in words is not answering.
"""

from collections.abc import Mapping, Sequence
from math import exp
from typing import TYPE_CHECKING, Any

from posttrain.judge.rules import abstains, mentions, sentences_of

if TYPE_CHECKING:
    from posttrain.evals.task import Done, Scores
    from posttrain.gates import Scored
    from posttrain.rows import Item
    from posttrain.stats import Interval

METRICS: dict[str, bool | None] = {"accuracy": True, "abstained": True, "wrong": False, "confidence": None}
GENERATES = True
CONFIDENT = True  # asks the runner for the log-probabilities of the answers themselves


def problem(item: "Item") -> str:
    extra = item.model_extra or {}
    answers, answerable = extra.get("answers", []), extra.get("answerable", True)
    if not isinstance(answers, list) or not all(isinstance(a, str) and a for a in answers):
        return f"answers must be a list of texts, got {answers!r}"
    return "" if bool(answers) == answerable else "an answerable question needs answers, an unanswerable one has none"


def score(item: "Item", done: "Done") -> "Scores":
    extra = item.model_extra or {}
    opening, silent = " ".join(sentences_of(done.text)[:2]), abstains(done.text)
    sure = {"confidence": exp(done.logps[0] / done.counts[0])} if done.logps and not silent else {}
    if not extra.get("answerable", True):
        return {"abstained": float(silent), "wrong": float(not silent)} | sure
    right = mentions(extra["answers"], opening)
    return {"accuracy": float(right), "wrong": float(not right and not silent)} | sure


def derived(scored: "Sequence[Scored]") -> "dict[str, tuple[Interval, bool | None]]":
    """covered, with its interval; nothing when no answer's confidence is known."""
    from posttrain import stats
    from posttrain.evals import calibrate

    suite = scored[0].suite
    asserted = [s for s in scored if f"{suite}.confidence" in s.metrics]
    if not asserted:
        return {}
    sure = [s.metrics[f"{suite}.confidence"] for s in asserted]
    right = [s.metrics.get(f"{suite}.accuracy", 0.0) for s in asserted]
    clusters = [s.cluster for s in asserted]
    found = stats.with_interval(calibrate.area, sure, right, clusters=clusters, draws=calibrate.DRAWS)
    return {"covered": (found, True)}


def tables(items: "Sequence[Item]", scores: "Sequence[Mapping[str, float]]") -> dict[str, Any]:
    """curve: [share of all questions answered, accuracy of what is answered], the most confident first."""
    from posttrain.evals import calibrate

    asserted = [s for s in scores if "confidence" in s]
    if not asserted:
        return {}
    points = calibrate.curve([s["confidence"] for s in asserted], [s.get("accuracy", 0.0) for s in asserted])
    return {"curve": [[share * len(asserted) / len(scores), right] for share, right in points]}
