"""Intervals and paired tests, thin over scipy. Arrays in, numbers out; everything random is seeded.

Shapes: N items, C clusters, D bootstrap draws. A cluster is a set of items that share a template or a conversation:
they are not independent, so they are resampled together.
Left out on purpose: plots; agreement between annotators and Bradley-Terry (agreement.py).
"""

from collections.abc import Callable, Hashable, Sequence
from math import ceil, inf, isfinite, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
DRAWS = 10_000
FEW_CLUSTERS = 5  # fewer are labels of kinds rather than dependent groups, and say nothing about the variance
CHUNK = 4_000_000  # random numbers drawn at once: 32 MB
Z_ONE_SIDED, Z_POWER = 1.6449, 0.8416  # normal quantiles 0.95 and 0.80; their sum is the 2.487 of the detectable drop


class Interval(NamedTuple):
    value: float
    low: float
    high: float
    n: int


def sigmoid(x: ArrayLike) -> Array:
    value: Array = 0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=float)))
    return value


def quantile(level: float) -> float:
    """z with P(|Z| < z) = level: 1.96 for 0.95."""
    from scipy.stats import norm  # scipy.stats takes half a second to import, so it is imported where it is used

    return float(norm.ppf(0.5 + level / 2))


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927). n may be an effective sample size, not whole."""
    if n <= 0:
        return 0.0, 1.0
    z, p = quantile(level), successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar p-value: of the items that changed, is half a fair share? (McNemar 1947)"""
    from scipy.stats import binomtest

    return float(binomtest(min(gained, lost), gained + lost, 0.5).pvalue) if gained + lost else 1.0


def wilcoxon(difference_N: ArrayLike) -> float:
    """Two-sided Wilcoxon signed-rank p-value of paired differences; 1 when no pair differs (Wilcoxon 1945)."""
    from scipy.stats import wilcoxon as signed_rank

    d = np.asarray(difference_N, dtype=float)
    d = d[d != 0]
    return float(signed_rank(d).pvalue) if len(d) else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: adjusted p-values in the order given (Holm 1979)."""
    adjusted, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, (len(p) - rank) * p[i])
        adjusted[i] = min(1.0, running)
    return adjusted


def cluster_sums(
    value_N: ArrayLike, cluster_N: Sequence[object], weight_N: ArrayLike | None = None
) -> tuple[Array, Array]:
    """(sum of weight * value, sum of weight), each [C]; clusters in the order of their first item.

    With fewer than FEW_CLUSTERS clusters each item counts as its own.
    """
    value = np.asarray(value_N, dtype=float)
    weight = np.ones_like(value) if weight_N is None else np.asarray(weight_N, dtype=float)
    number = {c: i for i, c in enumerate(dict.fromkeys(cluster_N))}
    if len(number) < FEW_CLUSTERS:
        return weight * value, weight
    index = np.fromiter((number[c] for c in cluster_N), dtype=np.intp, count=len(value))
    return np.bincount(index, weight * value).astype(float), np.bincount(index, weight).astype(float)


def bootstrap(
    value_N: ArrayLike,
    cluster_N: Sequence[object],
    weight_N: ArrayLike | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Array:
    """[D] sorted means of the values when whole clusters are drawn with replacement (ratio of sums; Efron 1979).

    For a paired comparison the values are the differences of the pairs.
    """
    total_C, weight_C = cluster_sums(value_N, cluster_N, weight_N)
    rng, clusters = np.random.default_rng(seed), len(total_C)
    step = max(1, CHUNK // max(1, clusters))
    parts = []
    for start in range(0, draws, step):
        drawn_DC = rng.integers(0, clusters, (min(step, draws - start), clusters))
        parts.append(total_C[drawn_DC].sum(1) / weight_C[drawn_DC].sum(1))
    return np.sort(np.concatenate(parts))


def percentiles(means_D: Array, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of bootstrap means."""
    low, high = np.quantile(means_D, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def student(
    value_N: ArrayLike, cluster_N: Sequence[object], weight_N: ArrayLike | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Student's interval of a mean (Student 1908), over cluster sums as in `bootstrap`: mean +- t (C - 1) x s, s the
    linearised standard error of a ratio of sums. A single cluster has no spread: its mean twice."""
    total_C, weight_C = cluster_sums(value_N, cluster_N, weight_N)
    clusters, mean = len(total_C), float(total_C.sum() / weight_C.sum())
    if clusters < 2:
        return mean, mean
    from scipy.stats import t

    square = float(((total_C - mean * weight_C) ** 2).sum()) * clusters / (clusters - 1)
    half = float(t.ppf(0.5 + level / 2, clusters - 1)) * sqrt(square) / float(weight_C.sum())
    return mean - half, mean + half


def effective_n(value_N: ArrayLike, cluster_N: Sequence[object], weight_N: ArrayLike | None = None) -> float:
    """Independent items that a clustered 0/1 sample is worth: n over the design effect (Kish 1965), at most n.

    design effect = variance of the mean between clusters / p (1 - p) / n. With p at 0 or 1 the data say
    nothing about clustering and n itself is returned.
    """
    total_C, weight_C = cluster_sums(value_N, cluster_N, weight_N)
    n, clusters = float(weight_C.sum()), len(total_C)
    p = float(total_C.sum()) / n
    if clusters < 2 or not 0 < p < 1:
        return n
    variance = clusters / (clusters - 1) * float(((total_C - p * weight_C) ** 2).sum()) / n**2
    return min(n, p * (1 - p) / variance) if variance > 0 else n


def interval(
    value_N: ArrayLike,
    cluster_N: Sequence[object],
    weight_N: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Weighted mean with its interval: Wilson on the effective sample size for 0/1 values, else cluster bootstrap."""
    value = np.asarray(value_N, dtype=float)
    total_C, weight_C = cluster_sums(value, cluster_N, weight_N)
    mean = float(total_C.sum() / weight_C.sum())
    if bool(np.isin(value, (0.0, 1.0)).all()):
        worth = effective_n(value, cluster_N, weight_N)
        return Interval(mean, *wilson(mean * worth, worth, level), len(value))
    means_D = bootstrap(value, cluster_N, weight_N, seed=seed)
    return Interval(mean, *percentiles(means_D, level), len(value))


def with_interval(
    fn: Callable[..., float],
    *of_N: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """fn(*of_N), any statistic, with a percentile bootstrap over items, the first axis of every array (Efron 1979).

    clusters: of each item; whole clusters are drawn then, unless there are fewer than FEW_CLUSTERS. Draws in which the
    value is not defined (all votes alike, say) are left out; the interval is nan when all are.
    """
    arrays = [np.asarray(a) for a in of_N]
    n, value = len(arrays[0]), fn(*arrays)
    if n == 0 or not isfinite(value):
        return Interval(nan, nan, nan, n)
    members: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(range(n) if clusters is None else clusters):
        members.setdefault(cluster, []).append(i)
    groups = [np.array(m) for m in members.values()] if FEW_CLUSTERS <= len(members) < n else None
    size, rng, good = len(groups) if groups else n, np.random.default_rng(seed), []
    for _ in range(draws):
        drawn = rng.integers(0, size, size)
        index = drawn if groups is None else np.concatenate([groups[g] for g in drawn])
        if isfinite(x := fn(*(a[index] for a in arrays))):
            good.append(x)
    low, high = percentiles(np.array(good), level) if good else (nan, nan)
    return Interval(float(value), low, high, n)


def calibration_error(confidence_N: ArrayLike, right_N: ArrayLike, bin_N: ArrayLike) -> float:
    """sum_b n_b / N |accuracy_b - confidence_b| (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599).

    0 is perfect; it is never below 0, so few items make it look worse than it is.
    """
    gap_N = np.asarray(confidence_N, dtype=float) - np.asarray(right_N, dtype=float)
    return float(np.abs(np.bincount(np.asarray(bin_N), gap_N)).sum() / len(gap_N))


def paired_wald(gained: int, lost: int, n: int, level: float) -> tuple[float, float]:
    """Interval of a difference of paired proportions (gained - lost) / n (Bonett & Price 2012, adjusted Wald).

    One item is added to each kind of change, so nothing changed in 20 pairs is not taken for certainty.
    """
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = quantile(level) * sqrt((up + down - (up - down) ** 2) / (n + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def corrected_rate(
    rate: float,
    n: float,
    sensitivity: tuple[int, int],
    specificity: tuple[int, int],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """True rate behind a rate seen through an imperfect detector: p = (p_obs + Sp - 1) / (Se + Sp - 1).

    Rogan & Gladen 1978, clipped to [0, 1]. sensitivity, specificity: (right, all) on labelled data. The interval
    draws all three from their Jeffreys posteriors, Beta(right + 1/2, wrong + 1/2), so a detector measured on few
    labels widens it. n: items, or the effective sample size.
    """
    se, sp = sensitivity[0] / sensitivity[1], specificity[0] / specificity[1]
    if se + sp <= 1:
        raise ValueError(f"a detector with sensitivity {se:.3f} and specificity {sp:.3f} says nothing")
    rng = np.random.default_rng(seed)

    def draw(right: float, everything: float) -> Array:
        return rng.beta(right + 0.5, everything - right + 0.5, draws)

    se_D, sp_D = draw(*sensitivity), draw(*specificity)
    true_D = (draw(rate * n, n) + sp_D - 1) / np.maximum(se_D + sp_D - 1, 1e-6)
    low, high = percentiles(np.sort(np.clip(true_D, 0, 1)), level)
    value = min(1.0, max(0.0, (rate + sp - 1) / (se + sp - 1)))
    return Interval(value, min(low, value), max(high, value), round(n))


def minimum_detectable_drop(share: float, n: float) -> float:
    """Smallest true drop that a one-sided 5% paired test on n items finds with 80% power: 2.487 sqrt(share / n).

    share: share of items whose verdict changes between the two models (for continuous values: their variance).
    """
    return (Z_ONE_SIDED + Z_POWER) * sqrt(share / n) if n > 0 else inf


def items_to_decide(half_width: float, distance: float, n: int) -> float:
    """How many more items like these would move the interval off a margin `distance` away from the difference.

    Widths shrink with sqrt(n), so N = n (half / distance)^2. Infinite when the difference lies on the margin.
    """
    if distance == 0:
        return inf
    return max(0.0, float(ceil(n * (half_width / abs(distance)) ** 2 - n)))
