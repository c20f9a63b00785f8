"""How far confidence can be trusted: calibration error, and accuracy over the share of questions one dares to answer.

Pure arithmetic on (confidence, right) of N questions. Intervals are cluster bootstraps.
Left out on purpose: recalibration, and where the confidence comes from (the suites say).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posttrain.stats import Interval

Array = NDArray[np.float64]
BINS = 10
DRAWS = 2000
STEPS = 10


def ece(confidence_N: ArrayLike, right_N: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean over N of |accuracy - confidence| of the question's bin of confidence.

    Equal bins of [0, 1] (Guo et al. 2017, arXiv:1706.04599). 0 is perfect; it is never below 0, so few questions make
    it look worse than it is.
    """
    confidence, right = np.asarray(confidence_N, float), np.asarray(right_N, float)
    bin_N = np.minimum((confidence * bins).astype(int), bins - 1)
    gap_K = np.bincount(bin_N, confidence - right, bins)
    return float(np.abs(gap_K).sum() / len(confidence))


def curve(confidence_N: ArrayLike, right_N: ArrayLike, steps: int = STEPS) -> list[list[float]]:
    """[coverage, accuracy of what is answered] when only the most confident share is answered, for 1/steps to 1.

    Questions of the same confidence are answered together, each counting in part, so their order does not matter.
    """
    right = _ranked(np.asarray(confidence_N, float), np.asarray(right_N, float))
    counts = [max(1, round(len(right) * k / steps)) for k in range(1, steps + 1)]
    return [[k / len(right), float(right[:k].mean())] for k in counts]


def area(confidence_N: ArrayLike, right_N: ArrayLike) -> float:
    """Mean accuracy over all coverages (1 - AURC of Geifman & El-Yaniv 2017): plain accuracy if confidence is noise."""
    right = _ranked(np.asarray(confidence_N, float), np.asarray(right_N, float))
    return float((np.cumsum(right) / np.arange(1, len(right) + 1)).mean())


def _ranked(confidence: Array, right: Array) -> Array:
    """right by falling confidence, ties replaced by their mean."""
    _, group = np.unique(-confidence, return_inverse=True)
    mean = np.bincount(group, right) / np.bincount(group)
    return mean[np.sort(group)]


def with_interval(
    measure: Callable[[Any, Any], float], confidence_N: ArrayLike, right_N: ArrayLike,
    clusters: Sequence[Hashable], seed: int = 0, draws: int = DRAWS,
) -> Interval:  # fmt: skip
    """The measure with its 95% percentile interval over clusters drawn again."""
    confidence, right = np.asarray(confidence_N, float), np.asarray(right_N, float)
    members: dict[Hashable, list[int]] = {}
    for n, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(n)
    groups = [np.array(m) for m in members.values()] if len(members) > 4 else [np.array([n]) for n in range(len(right))]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        chosen = np.concatenate([groups[g] for g in rng.integers(len(groups), size=len(groups))])
        values.append(measure(confidence[chosen], right[chosen]))
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(measure(confidence, right), float(low), float(high), len(right))
