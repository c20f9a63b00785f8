"""How far people agree, how reliable each is, what biases them, and which comparison would teach most.

Shapes: N items, A annotators, K categories, M models (players). Labels are any hashable values; item order, never the
order on the screen. Everything is numpy in closed form or a few lines of EM or Newton; random draws are seeded.
Left out on purpose: reading votes (feedback/), plots, models that need a sampler (MACE, item difficulty).
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import nan
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posttrain.stats import Interval, sigmoid, wilson, with_interval

Array = NDArray[np.float64]
Label = Hashable
Labels = Sequence[tuple[str, str, Label]]  # (item, person, label)
Level = Literal["nominal", "ordinal", "interval"]


# ---- chance-corrected agreement --------------------------------------------------------------------------------------


def cohen_kappa(
    a_N: Sequence[Any] | NDArray[Any],
    b_N: Sequence[Any] | NDArray[Any],
    weights: Literal["linear", "quadratic"] | None = None,
) -> float:
    """Two annotators who labelled the same items: kappa = 1 - sum w o / sum w e (Cohen 1960; weighted: Cohen 1968).

    o: observed share of each pair of categories, e: product of the margins, w: 1 off the diagonal, or the distance of
    the sorted categories' places, or its square. nan without items; 1 when both always say the same one thing.
    """
    both = sorted(set(np.asarray(a_N).tolist()) | set(np.asarray(b_N).tolist()))
    place = {c: k for k, c in enumerate(both)}
    observed_KK = np.zeros((len(both), len(both)))
    for a, b in zip(np.asarray(a_N).tolist(), np.asarray(b_N).tolist(), strict=True):
        observed_KK[place[a], place[b]] += 1
    n = observed_KK.sum()
    if n == 0:
        return nan
    gap_KK = np.abs(np.subtract.outer(np.arange(len(both)), np.arange(len(both)))).astype(float)
    weight_KK = {None: (gap_KK > 0).astype(float), "linear": gap_KK, "quadratic": gap_KK**2}[weights]
    expected = float((weight_KK * np.outer(observed_KK.sum(1), observed_KK.sum(0))).sum() / n)
    return 1.0 - float((weight_KK * observed_KK).sum()) / expected if expected else 1.0


def fleiss_kappa(count_NK: ArrayLike) -> float:
    """Agreement of several annotators a item from how many chose each category (Fleiss 1971).

    kappa = (P - Pe) / (1 - Pe); P: mean share of agreeing pairs within an item, Pe: sum of squared category shares.
    Items may have different numbers of votes, each counting once in P (items with one vote say nothing and are left
    out). nan where nothing is left.
    """
    count = np.asarray(count_NK, dtype=float)
    count = count[count.sum(1) >= 2] if count.size else count.reshape(0, 1)
    if not len(count):
        return nan
    n_N = count.sum(1)
    agreeing = float((((count**2).sum(1) - n_N) / (n_N * (n_N - 1))).mean())
    chance = float(((count.sum(0) / count.sum()) ** 2).sum())
    return (agreeing - chance) / (1 - chance) if chance < 1 else 1.0


def krippendorff_alpha(value_NA: ArrayLike, level: Level = "nominal") -> float:
    """alpha = 1 - D_o / D_e for numbers with gaps: nan is 'did not vote' (Krippendorff 2011, equations 1 to 5).

    Only values that can be paired within their item count. nan where fewer than two can; 1 when all are equal.
    """
    value = np.asarray(value_NA, dtype=float)
    categories = np.unique(value[np.isfinite(value)])
    count_NK = (value[:, :, None] == categories[None, None, :]).sum(1).astype(float)
    return alpha_of_counts(count_NK, categories, level)


def alpha_of_counts(count_NK: ArrayLike, category_K: ArrayLike | None = None, level: Level = "nominal") -> float:
    """Krippendorff's alpha from counts of each category a item; category_K: the categories' values, ascending."""
    count = np.asarray(count_NK, dtype=float)
    count = count[count.sum(1) >= 2] if count.size else count.reshape(0, 1)
    if not len(count):
        return nan
    weighted = count / (count.sum(1, keepdims=True) - 1)
    coincidence_KK = weighted.T @ count - np.diag(weighted.sum(0))
    n_K = coincidence_KK.sum(1)
    distance_KK = _distance(n_K, np.arange(len(n_K)) if category_K is None else category_K, level)
    expected = float((np.outer(n_K, n_K) * distance_KK).sum())
    observed = float((coincidence_KK * distance_KK).sum())
    return 1.0 - (n_K.sum() - 1) * observed / expected if expected else 1.0


def _distance(n_K: Array, value_K: ArrayLike, level: Level) -> Array:
    """Squared difference of two categories; for ranks, of the middles of the stretches they take up."""
    if level == "nominal":
        return 1.0 - np.eye(len(n_K))
    place_K = np.cumsum(n_K) - n_K / 2 if level == "ordinal" else np.asarray(value_K, dtype=float)
    return np.asarray(np.subtract.outer(place_K, place_K) ** 2, dtype=float)


def counts(labels: Labels, categories: Sequence[Label] = ()) -> tuple[Array, list[Label], list[str]]:
    """(count_NK, categories, items): how many people gave each item each label."""
    known = list(categories) or sorted({label for _, _, label in labels}, key=str)
    items = list(dict.fromkeys(item for item, _, _ in labels))
    row, column = {x: n for n, x in enumerate(items)}, {c: k for k, c in enumerate(known)}
    count_NK = np.zeros((len(items), len(known)))
    for item, _, label in labels:
        count_NK[row[item], column[label]] += 1
    return count_NK, known, items


def raw_agreement(count_NK: ArrayLike) -> float:
    """Chance that two votes on one item say the same, mean over items with several; nan where there are none."""
    count = np.asarray(count_NK, dtype=float)
    count = count[count.sum(1) >= 2]
    n_N = count.sum(1)
    return float((((count**2).sum(1) - n_N) / (n_N * (n_N - 1))).mean()) if len(count) else nan


def item_of(unit: str) -> str:
    """The pairs of a ranking are units of their own, named "item\\npair": they hang together."""
    return unit.split("\n")[0]


def with_intervals(labels: Labels, level: Level = "nominal", draws: int = 1000) -> dict[str, Interval]:
    """raw, fleiss and alpha (at the labels' level) of the units with two votes or more; bootstraps draw whole items."""
    ordered: list[Label] = [] if level == "nominal" else sorted({x for _, _, x in labels}, key=lambda x: float(str(x)))
    count_NK, known, units = counts(labels, ordered)
    value_K = np.array([float(str(k)) for k in known]) if ordered else None
    several_N = count_NK.sum(1) >= 2
    count_NK, clusters = count_NK[several_N], [item_of(u) for u, several in zip(units, several_N) if several]
    measures = {
        "raw": raw_agreement,
        "fleiss": fleiss_kappa,
        "alpha": lambda count: alpha_of_counts(count, value_K, level),
    }
    return {name: with_interval(fn, count_NK, clusters=clusters, draws=draws) for name, fn in measures.items()}


# ---- one annotator's reliability -------------------------------------------------------------------------------------


class Share(NamedTuple):
    """right of n, the share, and its 95% interval. n 0: nothing is known."""

    right: float
    n: int
    share: float
    low: float
    high: float


def beta_interval(right: float, n: int, level: float = 0.95) -> Share:
    """Accuracy on n gold items: mean and middle `level` of Beta(right + 1/2, wrong + 1/2), Jeffreys' posterior."""
    from scipy.stats import beta

    a, b = right + 0.5, n - right + 0.5
    low, high = beta.ppf([0.5 - level / 2, 0.5 + level / 2], a, b)
    return Share(right, n, a / (a + b), float(low), float(high))


def leave_one_out(labels: Labels) -> dict[str, Share]:
    """Per person: how often the label is the most frequent one among the others on the same item.

    Items where nobody else voted, or where the others are split evenly, say nothing about the person.
    """
    by_item: dict[str, list[tuple[str, Label]]] = defaultdict(list)
    for item, person, label in labels:
        by_item[item].append((person, label))
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter({person: 0 for _, person, _ in labels})
    for votes in by_item.values():
        for person, label in votes:
            top = majority(x for other, x in votes if other != person)
            if top is not None:
                asked[person] += 1
                right[person] += label == top
    return {p: Share(right[p], n, right[p] / n if n else nan, *wilson(right[p], n)) for p, n in asked.items()}


def majority(labels: Iterable[Label]) -> Label | None:
    """The most frequent label, None when there is none or two are equally frequent."""
    top = Counter(labels).most_common(2)
    return None if not top or (len(top) == 2 and top[0][1] == top[1][1]) else top[0][0]


class DawidSkene(NamedTuple):
    """posterior: item -> label -> probability of being the true one. confusion: person -> [true, said] over `labels`.

    accuracy: person -> chance of saying the true label, over the true labels' estimated shares.
    """

    labels: tuple[Label, ...]
    posterior: Mapping[str, Mapping[Label, float]]
    confusion: Mapping[str, Array]
    accuracy: Mapping[str, float]


def dawid_skene(labels: Labels, *, smoothing: float = 0.5, rounds: int = 100, tolerance: float = 1e-6) -> DawidSkene:
    """True labels and each person's error rates together, by EM from majority shares (Dawid & Skene 1979, eq. 2.3-2.5).

    smoothing: votes added to each cell of a confusion matrix, twice as many on the diagonal, so that a person of few
    votes is taken for decent rather than for perfect or hopeless.
    """
    count_NK, known, items = counts(labels)
    people = list(dict.fromkeys(person for _, person, _ in labels))
    said_V = np.array([known.index(x) for _, _, x in labels], dtype=np.intp)
    row = {x: n for n, x in enumerate(items)}
    item_V = np.array([row[item] for item, _, _ in labels], dtype=np.intp)
    who = {p: n for n, p in enumerate(people)}
    person_V = np.array([who[p] for _, p, _ in labels], dtype=np.intp)
    kinds, prior_KK = len(known), smoothing * (1 + np.eye(len(known)))
    posterior_NK = count_NK / count_NK.sum(1, keepdims=True) if len(labels) else count_NK
    confusion_AKK, share_K = np.zeros((len(people), kinds, kinds)), np.zeros(kinds)
    for _ in range(rounds if len(labels) else 0):
        sums_AKK = np.zeros((len(people), kinds, kinds))
        np.add.at(sums_AKK.transpose(0, 2, 1), (person_V, said_V), posterior_NK[item_V])
        sums_AKK += prior_KK
        confusion_AKK = sums_AKK / sums_AKK.sum(2, keepdims=True)
        share_K = (posterior_NK.sum(0) + smoothing) / (len(items) + smoothing * kinds)
        log_NK = np.tile(np.log(share_K), (len(items), 1))
        np.add.at(log_NK, item_V, np.log(confusion_AKK[person_V, :, said_V]))
        before = posterior_NK
        posterior_NK = np.exp(log_NK - log_NK.max(1, keepdims=True))
        posterior_NK /= posterior_NK.sum(1, keepdims=True)
        if float(np.abs(posterior_NK - before).max()) < tolerance:
            break
    return DawidSkene(
        tuple(known),
        {x: {c: float(p) for c, p in zip(known, posterior_NK[n])} for n, x in enumerate(items)},
        {p: confusion_AKK[n] for n, p in enumerate(people)},
        {p: float(share_K @ np.diagonal(confusion_AKK[n])) for n, p in enumerate(people)},
    )


# ---- biases ----------------------------------------------------------------------------------------------------------


class Bias(NamedTuple):
    """A share that would be one half without bias, its 95% interval, and the exact binomial test's two-sided p."""

    share: float
    low: float
    high: float
    n: int
    p: float


def position_bias(first_chosen: float, n: int) -> Bias:
    """Of n decided comparisons, how often the answer shown first won; order is random, so a fair eye gives one half."""
    from scipy.stats import binomtest

    p = float(binomtest(round(first_chosen), n).pvalue) if n else 1.0
    return Bias(first_chosen / n if n else nan, *wilson(first_chosen, n), n, p)


def length_bias(chosen_N: ArrayLike, rejected_N: ArrayLike) -> Bias:
    """How often the longer answer won; comparisons of equal length say nothing. Longer may of course be better."""
    gap_N = np.asarray(chosen_N, dtype=float) - np.asarray(rejected_N, dtype=float)
    return position_bias(int((gap_N > 0).sum()), int((gap_N != 0).sum()))


# ---- strengths, and what to compare next -----------------------------------------------------------------------------


def bradley_terry(
    wins_MM: ArrayLike, *, prior: float = 0.1, rounds: int = 100, tolerance: float = 1e-9
) -> tuple[Array, Array]:
    """(strength_M, covariance_MM): P(i beats j) = sigma(s_i - s_j) (Bradley & Terry 1952), by Newton's method.

    wins_MM[i, j]: how often i beat j, a tie being half a win each. prior: precision of a normal prior around zero,
    which keeps a player who never lost finite and makes the strengths sum to zero. The covariance is Laplace's.
    """
    wins = np.asarray(wins_MM, dtype=float)
    games_MM, players = wins + wins.T, len(wins)
    strength_M = np.zeros(players)
    precision_MM = prior * np.eye(players)
    for _ in range(rounds):
        p_MM = sigmoid(np.subtract.outer(strength_M, strength_M))
        gradient_M = (wins - games_MM * p_MM).sum(1) - prior * strength_M
        curve_MM = games_MM * p_MM * (1 - p_MM)
        np.fill_diagonal(curve_MM, 0.0)
        precision_MM = np.diag(curve_MM.sum(1) + prior) - curve_MM
        step_M = np.linalg.solve(precision_MM, gradient_M)
        strength_M = strength_M + step_M * min(
            1.0, 2.0 / max(1e-12, float(np.abs(step_M).max()))
        )  # far steps overshoot
        if float(np.abs(step_M).max(initial=0.0)) < tolerance:
            break
    return strength_M, np.asarray(np.linalg.inv(precision_MM), dtype=float)


def information(strength_M: ArrayLike, covariance_MM: ArrayLike) -> Array:
    """[M, M]: p (1 - p) var(s_i - s_j), what a comparison of i with j would teach; zero on the diagonal."""
    strength, covariance = np.asarray(strength_M, dtype=float), np.asarray(covariance_MM, dtype=float)
    p_MM = sigmoid(np.subtract.outer(strength, strength))
    own_M = np.diagonal(covariance)
    return np.asarray(p_MM * (1 - p_MM) * (own_M[:, None] + own_M[None, :] - 2 * covariance), dtype=float)
