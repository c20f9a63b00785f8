"""How often one model's answers beat another's, and how often they would at equal length.

Judges, people included, like longer answers. P(win) = sigmoid(theta + phi tanh(d / s)), d: how much longer the
answer is, s: standard deviation of d; the length-controlled win rate is sigmoid(theta), what the fit says at d = 0
(after Dubois et al. 2024, arXiv:2404.04475, without their terms for the instruction).
Shapes: N comparisons, C clusters, D bootstrap draws. Left out on purpose: asking the judge (llm.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posttrain.stats import DRAWS, Interval, percentiles

Array = NDArray[np.float64]
RIDGE = 1e-2  # pseudo-comparisons' worth of pull to 0: a side that always wins has a finite theta
STEPS = 50


class WinRate(NamedTuple):
    """raw: mean P(win). controlled: at equal length. phi: log-odds that a much longer answer gains."""

    raw: Interval
    controlled: Interval
    phi: Interval


def fit(p_N: Array, x_N: Array, weight_DN: Array) -> tuple[Array, Array]:
    """(theta_D, phi_D) by Newton's method for D weightings of the same comparisons at once.

    Maximises sum w [p log q + (1 - p) log(1 - q)] - RIDGE (theta^2 + phi^2) / 2 with q = sigmoid(theta + phi x).
    """
    theta_D, phi_D = np.zeros(len(weight_DN)), np.zeros(len(weight_DN))
    for _ in range(STEPS):
        z_DN = np.clip(theta_D[:, None] + phi_D[:, None] * x_N, -30, 30)
        q_DN = 1.0 / (1.0 + np.exp(-z_DN))
        r_DN, h_DN = weight_DN * (p_N - q_DN), weight_DN * q_DN * (1 - q_DN)
        g0, g1 = r_DN.sum(1) - RIDGE * theta_D, r_DN @ x_N - RIDGE * phi_D
        a, b, c = h_DN.sum(1) + RIDGE, h_DN @ x_N, h_DN @ (x_N * x_N) + RIDGE
        det = a * c - b * b
        step0, step1 = (c * g0 - b * g1) / det, (a * g1 - b * g0) / det
        size = np.maximum(1.0, np.maximum(abs(step0), abs(step1)) / 2.0)  # long steps overshoot where q is near 0 or 1
        theta_D, phi_D = theta_D + step0 / size, phi_D + step1 / size
        if max(abs(step0).max(), abs(step1).max()) < 1e-10:
            break
    return theta_D, phi_D


def win_rate(
    p_N: ArrayLike, longer_N: ArrayLike, cluster_N: Sequence[object] | None = None, *, draws: int = DRAWS // 10,
    seed: int = 0,
) -> WinRate:  # fmt: skip
    """p_N: P(ours wins), ties 0.5. longer_N: length of ours minus theirs, any unit. Whole clusters are drawn."""
    p, d = np.asarray(p_N, dtype=float), np.asarray(longer_N, dtype=float)
    if not len(p) or p.shape != d.shape or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("win rates need probabilities and lengths of the same comparisons")
    spread = float(d.std())
    x = np.tanh(d / spread) if spread > 0 else np.zeros_like(d)
    number = {c: i for i, c in enumerate(dict.fromkeys(cluster_N or range(len(p))))}
    index_N = np.array([number[c] for c in (cluster_N or range(len(p)))])
    rng = np.random.default_rng(seed)
    times_DC = rng.multinomial(len(number), np.full(len(number), 1 / len(number)), draws).astype(float)
    weight_DN = np.vstack([np.ones(len(p)), times_DC[:, index_N]])
    theta, phi = fit(p, x, weight_DN)
    raw = (weight_DN @ p) / weight_DN.sum(1)
    rate = 1.0 / (1.0 + np.exp(-theta))
    return WinRate(*(_interval(values, len(p)) for values in (raw, rate, phi)))


def _interval(values: Array, n: int) -> Interval:
    """The first value is the data's own, the others the bootstrap's."""
    return Interval(float(values[0]), *percentiles(np.sort(values[1:])), n)
