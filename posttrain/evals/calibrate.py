"""How far confidence can be trusted: calibration error, and accuracy over the share of questions one dares to answer.

Pure arithmetic on (confidence, right) of N questions. Left out on purpose: intervals (stats.with_interval),
recalibration, and where the confidence comes from (the suites say).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posttrain import stats

Array = NDArray[np.float64]
BINS = 10
DRAWS = 2000  # of the bootstraps behind intervals
STEPS = 10


def ece(confidence_N: ArrayLike, right_N: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over equal bins of [0, 1]."""
    bin_N = np.minimum((np.asarray(confidence_N, float) * bins).astype(int), bins - 1)
    return stats.calibration_error(confidence_N, right_N, bin_N)


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
