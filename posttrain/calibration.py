"""How good is a reward model? Accuracy with its interval beside "longer is better", calibration, margins, breakdowns.

Pure: comparisons with score differences in, a report (plain JSON) out. A difference of scores is read as log-odds:
P(first is better) = sigma(difference). Rows with a probability count as their likelier order; ties are left out.
Shapes: N comparisons, in clusters by prompt.
Left out on purpose: scoring (reward_model.py), drawing (report/rewards.py).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posttrain import stats

Array = NDArray[np.float64]
BINS = 10  # of confidence, from 0.5 to 1
LENGTHS = (200, 600, 1500)  # characters of the longer answer
LENGTH_NAMES = ("under 200 characters", "200 to 599 characters", "600 to 1499 characters", "1500 characters or more")
RATIOS = (0.5, 0.9, 1.1, 2.0)  # length of the preferred answer over the other's
RATIO_NAMES = ("preferred is under half as long", "preferred is shorter", "lengths within 10%", "preferred is longer",
               "preferred is over twice as long")  # fmt: skip
FEWEST = 5  # comparisons that a breakdown shows by themselves


class Judged(NamedTuple):
    """A held-out comparison: score difference (preferred minus other), and what it is counted by."""

    margin: float
    spread: float  # standard deviation of the difference over the members, 0 for one member
    better_chars: int
    worse_chars: int
    prompt: str  # cluster
    source: str = ""
    category: str = ""
    id: str = ""

    @property
    def right(self) -> float:
        return 0.5 + 0.5 * ((self.margin > 0) - (self.margin < 0))

    @property
    def longer(self) -> float:
        """Whether "longer is better" is right."""
        return 0.5 + 0.5 * ((self.better_chars > self.worse_chars) - (self.better_chars < self.worse_chars))


def report(found: Sequence[Judged], seed: int = 0) -> dict[str, Any]:
    """Everything that is said about held-out comparisons. ValueError when there are none."""
    if not found:
        raise ValueError("no comparison to report on")
    margin_N = np.array([j.margin for j in found])
    clusters = [j.prompt for j in found]
    right_N, longer_N = np.array([j.right for j in found]), np.array([j.longer for j in found])
    difference_N = right_N - longer_N
    low, high = stats.percentiles(stats.bootstrap(difference_N, clusters, seed=seed))
    p_N = stats.sigmoid(margin_N)
    return {
        "comparisons": len(found),
        "prompts": len(set(clusters)),
        "accuracy": share(right_N, clusters, seed),
        "longer_is_better": share(longer_N, clusters, seed),
        "difference": {"value": float(difference_N.mean()), "low": low, "high": high},
        "log_loss": float(np.logaddexp(0, -margin_N).mean()),
        "brier": float(((1 - p_N) ** 2).mean()),
        "ece": expected_calibration_error(margin_N),
        "reliability": reliability(margin_N),
        "margins": histogram(margin_N),
        "by_source": breakdown(found, lambda j: j.source or "(none)", seed),
        "by_category": breakdown(found, lambda j: j.category or "(none)", seed),
        "by_length": breakdown(found, length, seed, names=LENGTH_NAMES),
        "by_length_ratio": breakdown(found, ratio, seed, names=RATIO_NAMES),
        "by_agreement": agreement(found, seed),
    }


def share(value_N: ArrayLike, clusters: Sequence[object], seed: int = 0) -> dict[str, float]:
    """Mean of values in [0, 1] with its 95% interval; prompts are the clusters."""
    found = stats.interval(value_N, clusters, seed=seed)
    return {"value": found.value, "low": found.low, "high": found.high, "n": float(found.n)}


def _confident(margin_N: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """(confidence in the answer scored higher, whether it is the preferred one, bin of each)."""
    confidence = stats.sigmoid(np.abs(margin_N))
    right = 0.5 + 0.5 * np.sign(margin_N)
    return confidence, right, np.minimum(((confidence - 0.5) * 2 * BINS).astype(np.intp), BINS - 1)


def reliability(margin_N: Array) -> list[dict[str, float]]:
    """Confidence against accuracy in BINS equal bins from 0.5 to 1; empty ones are left out."""
    confidence, right, index = _confident(margin_N)
    rows = []
    for b in np.unique(index):
        here = index == b
        n, hits = int(here.sum()), float(right[here].sum())
        low, high = stats.wilson(hits, n)
        sure = float(confidence[here].mean())
        rows.append({"confidence": sure, "accuracy": hits / n, "low": low, "high": high, "n": float(n)})
    return rows


def expected_calibration_error(margin_N: Array) -> float:
    """stats.calibration_error over BINS equal bins of confidence from 0.5 to 1."""
    return stats.calibration_error(*_confident(margin_N))


def histogram(margin_N: Array, bins: int = 24) -> dict[str, list[float]]:
    """Counts of score differences over a symmetric range that holds 99% of them; the rest falls into the end bins."""
    reach = max(1e-6, float(np.quantile(np.abs(margin_N), 0.99)))
    edges = np.linspace(-reach, reach, bins + 1)
    counts, _ = np.histogram(np.clip(margin_N, -reach, reach), edges)
    return {"edges": [float(e) for e in edges], "counts": [float(c) for c in counts]}


def length(j: Judged) -> str:
    return LENGTH_NAMES[sum(max(j.better_chars, j.worse_chars) >= e for e in LENGTHS)]


def ratio(j: Judged) -> str:
    return RATIO_NAMES[sum(j.better_chars / max(1, j.worse_chars) >= e for e in RATIOS)]


def breakdown(
    found: Sequence[Judged], key: Callable[[Judged], str], seed: int = 0, names: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Accuracy and "longer is better" for every value of `key`; small ones are put together.

    In the order of `names`, else the largest first.
    """
    groups: dict[str, list[Judged]] = {}
    for j in found:
        groups.setdefault(key(j), []).append(j)
    small = [j for g in groups.values() if len(g) < FEWEST for j in g]
    kept = {k: g for k, g in groups.items() if len(g) >= FEWEST}
    if small:
        kept["(few each)"] = small
    order = {name: n for n, name in enumerate(names)}
    return {
        name: share([j.right for j in g], [j.prompt for j in g], seed)
        | {"longer": float(np.mean([j.longer for j in g]))}
        for name, g in sorted(kept.items(), key=lambda x: (order.get(x[0], len(order)), -len(x[1])))
    }


def agreement(found: Sequence[Judged], seed: int = 0) -> dict[str, dict[str, float]]:
    """Accuracy in thirds by how far the members disagree, relative to the difference; {} for a single member.

    An ensemble whose disagreement means something is more often right where it agrees.
    """
    if len(found) < 3 * FEWEST or not any(j.spread for j in found):
        return {}
    order = sorted(found, key=lambda j: j.spread / max(1e-9, abs(j.margin)))
    cut = [0, len(order) // 3, 2 * len(order) // 3, len(order)]
    names = ("members agree most", "members agree less", "members agree least")
    parts = {name: order[a:b] for name, a, b in zip(names, cut, cut[1:])}
    return {name: share([j.right for j in g], [j.prompt for j in g], seed) for name, g in parts.items()}
