"""Agreement between people: published worked examples, hand values, statsmodels, properties, and real votes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain import agreement
from posttrain.agreement import (
    beta_interval,
    bradley_terry,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    information,
    krippendorff_alpha,
    leave_one_out,
    length_bias,
    majority,
    position_bias,
    with_intervals,
)  # fmt: skip
from posttrain.stats import with_interval

PANDALM = Path(__file__).parents[2] / "shared/data/pandalm-testset/testset-v1.json"
nan = float("nan")


# ---- published examples ----------------------------------------------------------------------------------------------


def test_cohen_textbook():
    """50 grants, two readers: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no (Wikipedia, Cohen's kappa, simple example).

    P_o = 35/50 = 0.7; P_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = 0.2 / 0.5 = 0.4.
    """
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_fleiss_textbook():
    """14 raters, 10 subjects, 5 categories: kappa 0.210 (Wikipedia, Fleiss' kappa, worked example)."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize("level, alpha", [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_published(level, alpha):
    """Four observers, twelve units, gaps (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, parts C-E)."""
    rows = ["1 2 3 3 2 1 4 1 2 * * *", "1 2 3 3 2 2 4 1 2 5 * 3", "* 3 3 3 2 3 4 2 2 5 1 *", "1 2 3 3 2 4 4 1 2 5 1 *"]
    value_AN = np.array([[nan if x == "*" else float(x) for x in row.split()] for row in rows])
    assert krippendorff_alpha(value_AN.T, level) == pytest.approx(alpha, abs=5e-4)


def test_bradley_terry_baseball():
    """American League 1987: strengths relative to Baltimore as in Agresti, Categorical Data Analysis, table 10.10."""
    wins = [
        [0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0],
    ]  # fmt: skip
    strength, covariance = bradley_terry(wins, prior=1e-7)
    assert strength - strength[-1] == pytest.approx([1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0], abs=0.006)
    assert np.sqrt(covariance[0, 0] + covariance[6, 6] - 2 * covariance[0, 6]) == pytest.approx(0.343, abs=5e-4)


@pytest.mark.skipif(not PANDALM.exists(), reason="needs ../shared/data/pandalm-testset, which does not ship")
def test_pandalm_known_values():
    """Three annotators of 999 comparisons: Fleiss and alpha 0.864, Cohen 0.852, 0.879, 0.862."""
    value = np.array([[row[f"annotator{k}"] for k in (1, 2, 3)] for row in json.loads(PANDALM.read_text())])
    count = np.stack([(value == k).sum(1) for k in range(3)], 1)
    assert round(fleiss_kappa(count), 3) == round(krippendorff_alpha(value), 3) == 0.864
    pairs = [cohen_kappa(value[:, i], value[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [round(k, 3) for k in pairs] == [0.852, 0.879, 0.862]
    whole = with_interval(krippendorff_alpha, value, draws=200)
    assert 0.83 < whole.low < 0.85 < 0.88 < whole.high < 0.90


# ---- oracle ----------------------------------------------------------------------------------------------------------

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=40)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of its standard errors, which are not looked at
@settings(max_examples=50, deadline=None)
@given(LABELS, st.sampled_from([None, "linear", "quadratic"]))
def test_cohen_as_statsmodels(both, weights):
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    kinds = sorted({x for pair in both for x in pair})
    table = np.zeros((len(kinds), len(kinds)))
    for a, b in both:
        table[kinds.index(a), kinds.index(b)] += 1
    if len(set(a for a, _ in both)) < 2 or len(set(b for _, b in both)) < 2:
        return  # statsmodels divides by zero there
    oracle = inter_rater.cohens_kappa(table, wt=weights and {"linear": "linear", "quadratic": "quadratic"}[weights])
    assert cohen_kappa(*zip(*both), weights) == pytest.approx(oracle.kappa, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.permutations([0, 1, 4]).map(list), min_size=3, max_size=20))
def test_fleiss_as_statsmodels(counts):
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    assert fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-9)


# ---- properties ------------------------------------------------------------------------------------------------------


def test_alpha_of_complete_nominal_data_is_fleiss_with_a_small_sample_correction():
    """With n votes on each of N items 1 - alpha = (1 - kappa) (nN - 1) / nN: expected disagreement draws without
    replacement (Krippendorff 2011)."""
    value = np.random.default_rng(0).integers(0, 3, (30, 4))
    count = np.stack([(value == k).sum(1) for k in range(3)], 1)
    n = value.size
    assert 1 - krippendorff_alpha(value) == pytest.approx((1 - fleiss_kappa(count)) * (n - 1) / n)


def test_agreement_at_its_ends():
    """All alike 1; independent coins about 0; always the opposite of each other -1; nothing shared is unknown."""
    assert cohen_kappa("aab", "aab") == fleiss_kappa([[3, 0], [0, 3]]) == krippendorff_alpha([[1, 1], [2, 2]]) == 1
    assert cohen_kappa("aaaa", "aaaa") == 1  # one category only: nothing to correct for
    assert cohen_kappa("ab", "ba") == -1
    coins = np.random.default_rng(1).integers(0, 2, (4000, 3))
    assert abs(krippendorff_alpha(coins)) < 0.03
    assert np.isnan(fleiss_kappa([[1, 0], [0, 1]])) and np.isnan(krippendorff_alpha([[1, nan], [nan, 2]]))
    assert np.isnan(cohen_kappa([], [])) and np.isnan(with_interval(fleiss_kappa, np.zeros((0, 2))).value)


def test_weighted_kappa_forgives_near_misses():
    near, far = ([1, 2, 3, 4], [1, 2, 3, 3]), ([1, 2, 3, 4], [1, 2, 3, 1])
    assert cohen_kappa(*near, "quadratic") > cohen_kappa(*far, "quadratic")
    assert cohen_kappa(*near) > cohen_kappa(*near[::-1]) - 1e-12 and cohen_kappa(*near) == cohen_kappa(*near[::-1])


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """40 samples of 120 items by 3 people who are right with 0.8: 95% intervals miss the large-sample alpha rarely."""
    rng = np.random.default_rng(2)

    def votes(n):
        truth = rng.integers(0, 2, (n, 1))
        return np.where(rng.random((n, 3)) < 0.8, truth, 1 - truth)

    truth = krippendorff_alpha(votes(200_000))
    hits = sum(
        i.low <= truth <= i.high for i in (with_interval(krippendorff_alpha, votes(120), draws=200) for _ in range(40))
    )
    assert hits >= 34


# ---- people ----------------------------------------------------------------------------------------------------------


def noisy(accuracy, items=300, kinds=("x", "y", "z"), seed=3):
    """Votes of people with known accuracies on known truths."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(kinds), items)
    return [
        (f"i{n}", person, kinds[t] if rng.random() < p else kinds[(t + rng.integers(1, len(kinds))) % len(kinds)])
        for n, t in enumerate(truth)
        for person, p in accuracy.items()
    ], [kinds[t] for t in truth]


def test_dawid_skene_finds_who_is_right():
    """The majority of two careless people and a careful one is beaten by weighing them."""
    accuracy = {"careful": 0.95, "fair": 0.75, "poor": 0.5, "coin": 1 / 3, "dice": 1 / 3}
    votes, truth = noisy(accuracy, items=1000)
    found = dawid_skene(votes)
    for person, p in accuracy.items():
        assert found.accuracy[person] == pytest.approx(p, abs=0.06)
    best = [max(found.posterior[f"i{n}"], key=found.posterior[f"i{n}"].get) for n in range(1000)]
    by_majority = [majority(x for item, _, x in votes[5 * n : 5 * n + 5]) for n in range(1000)]
    assert sum(map(str.__eq__, best, truth)) > sum(a == b for a, b in zip(by_majority, truth)) + 50
    assert all(sum(p.values()) == pytest.approx(1) for p in found.posterior.values())
    assert all(np.allclose(m.sum(1), 1) for m in found.confusion.values())


def test_dawid_skene_without_votes():
    assert dawid_skene([]).accuracy == {}


def test_leave_one_out_by_hand():
    """i1: a, a, b -> the others' majority is unique for c alone (a, a): c wrong; for a and b the others split (a, b).

    i2: x, x, x -> all right. i3: one vote, nothing to compare with. So a 1/1, b 1/1, c 1/2.
    """
    votes = [("i1", "a", "a"), ("i1", "b", "a"), ("i1", "c", "b")]
    votes += [("i2", p, "x") for p in "abc"] + [("i3", "a", "x"), ("i3x", "d", "y")]
    found = leave_one_out(votes)
    assert [(found[p].right, found[p].n) for p in "abcd"] == [(1, 1), (1, 1), (1, 2), (0, 0)]
    assert np.isnan(found["d"].share)


def test_gold_accuracy_is_jeffreys():
    """9 of 10: Beta(9.5, 1.5), mean 9.5 / 11 = 0.8636; nothing seen: mean one half, nearly all of [0, 1]."""
    found = beta_interval(9, 10)
    assert found.share == pytest.approx(9.5 / 11) and found.low < 0.7 < 0.95 < found.high
    nothing = beta_interval(0, 0)
    assert nothing.share == 0.5 and nothing.low < 0.01 and nothing.high > 0.99


def test_position_and_length_bias():
    """5 of 5: p = 2 / 32 = 0.0625. Lengths 3 > 1, 2 < 5, 4 = 4: one of two decided won by the longer."""
    assert position_bias(5, 5).p == pytest.approx(0.0625) and position_bias(0, 0).n == 0
    found = length_bias([3, 2, 4], [1, 5, 4])
    assert (found.share, found.n) == (0.5, 2)


# ---- what to compare next --------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_bradley_terry_properties(players, seed):
    """Strengths sum to zero, swapping winners and losers mirrors them, and the gradient vanishes at the answer."""
    wins = np.random.default_rng(seed).integers(0, 6, (players, players)).astype(float)
    np.fill_diagonal(wins, 0)
    strength, covariance = bradley_terry(wins)
    assert strength.sum() == pytest.approx(0, abs=1e-6)
    assert bradley_terry(wins.T)[0] == pytest.approx(-strength, abs=1e-6)
    p = 1 / (1 + np.exp(-np.subtract.outer(strength, strength)))
    assert ((wins - (wins + wins.T) * p).sum(1) - 0.1 * strength) == pytest.approx(np.zeros(players), abs=1e-6)
    assert np.all(np.linalg.eigvalsh(covariance) > 0)


def test_information_prefers_close_and_little_known():
    """Three equals, 0 and 1 compared a hundred times, 2 hardly ever: a comparison with 2 teaches more."""
    wins = np.array([[0, 50, 1], [50, 0, 1], [1, 1, 0]], dtype=float)
    found = information(*bradley_terry(wins))
    assert found[0, 2] > 5 * found[0, 1] and np.allclose(found, found.T) and np.allclose(np.diag(found), 0)
    lopsided = np.array([[0, 9.0], [1.0, 0]])
    even = np.array([[0, 5.0], [5.0, 0]])
    sure, close = information(*bradley_terry(lopsided, prior=1e-3)), information(*bradley_terry(even, prior=1e-3))
    assert sure[0, 1] == pytest.approx(close[0, 1], rel=0.05)  # p (1 - p) / (n p (1 - p)) = 1 / n, whatever p is


def test_undefeated_stays_finite():
    strength, _ = bradley_terry([[0, 100], [0, 0]])
    assert 1 < strength[0] - strength[1] < 20
    assert agreement.bradley_terry(np.zeros((3, 3)))[0] == pytest.approx([0, 0, 0])


def test_pairs_of_a_ranking_are_drawn_together_and_say_no_more_than_one():
    """Ten copies of every comparison under its item: the same interval as one, not one a third as wide."""
    rng = np.random.default_rng(0)
    votes = [(f"item/{i}", p, "ab"[int(rng.integers(2))]) for i in range(40) for p in "xyz"]
    copies = [(f"{item}\n{n}", p, label) for item, p, label in votes for n in range(10)]
    once, often = (with_intervals(found, draws=200) for found in (votes, copies))
    for name in ("raw", "fleiss"):
        assert often[name][:3] == pytest.approx(once[name][:3])
        assert once[name].n == 40 and often[name].n == 400
    alone = with_intervals([(item.replace("\n", "-"), p, label) for item, p, label in copies], draws=200)["raw"]
    assert alone.high - alone.low < 0.5 * (once["raw"].high - once["raw"].low)


def test_intervals_take_ratings_as_numbers_and_leave_single_votes_out():
    votes = [("a", "x", 1), ("a", "y", 10), ("b", "x", 2), ("b", "y", 3), ("c", "x", 9)]
    found = with_intervals(votes, "interval", draws=50)
    assert found["alpha"].n == 2
    assert found["alpha"].value == pytest.approx(krippendorff_alpha([[1, 10], [2, 3]], "interval"))
