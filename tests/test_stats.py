"""Intervals and paired tests against scipy, statsmodels, papers and hand arithmetic."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from posttrain import stats


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95]))
def test_wilson_is_statsmodels(n, share, level):
    k = round(share * n)
    expected = proportion_confint(k, n, alpha=1 - level, method="wilson")
    assert stats.wilson(k, n, level) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("gained", "lost"), [(10, 2), (0, 7), (5, 5), (1, 0)])
def test_mcnemar_is_statsmodels(gained, lost):
    expected = mcnemar([[30, lost], [gained, 40]], exact=True).pvalue
    assert stats.mcnemar(gained, lost) == pytest.approx(expected)


def test_mcnemar_by_hand():
    """Of 7 changes all are losses: 2 x (1/2)^7 = 0.015625. No change at all: 1."""
    assert stats.mcnemar(0, 7) == pytest.approx(0.015625)
    assert stats.mcnemar(0, 0) == 1.0


def test_wilcoxon_leaves_out_ties():
    d = [0.0, 0.3, -0.1, 0.4, 0.2, 0.0, 0.6]
    assert stats.wilcoxon(d) == pytest.approx(scipy_stats.wilcoxon([x for x in d if x]).pvalue)
    assert stats.wilcoxon([0.0, 0.0]) == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p):
    assert stats.holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_bootstrap_is_seeded_and_close_to_theory():
    """Standard error of a mean of 400 standard normals: 1 / 20 = 0.05, so the 95% interval is about mean +- 0.098."""
    x = np.random.default_rng(1).normal(size=400)
    means = stats.bootstrap(x, list(range(400)))
    low, high = stats.percentiles(means)
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.01)
    assert np.array_equal(means, stats.bootstrap(x, list(range(400))))
    assert not np.array_equal(means, stats.bootstrap(x, list(range(400)), seed=1))


def test_bootstrap_resamples_whole_clusters():
    """20 clusters of 10 equal values carry the information of 20 items, not of 200: intervals sqrt(10) times wider."""
    x = np.repeat(np.random.default_rng(0).normal(size=20), 10)
    narrow = stats.percentiles(stats.bootstrap(x, list(range(200))))
    wide = stats.percentiles(stats.bootstrap(x, list(np.repeat(range(20), 10))))
    ratio = (wide[1] - wide[0]) / (narrow[1] - narrow[0])
    assert ratio == pytest.approx(10**0.5, rel=0.1)


def test_weights_are_a_ratio_of_sums():
    """1/2 of 2 parts and 3/3 of 3 parts: (1 + 3) / (2 + 3) = 0.8."""
    assert stats.interval([0.5, 1.0], ["a", "b"], [2.0, 3.0]).value == pytest.approx(0.8)


def test_student_is_scipys_and_one_cluster_has_no_spread():
    value = [0.1, 0.4, -0.3, 0.8, 0.2, 0.05]
    wanted = scipy_stats.ttest_1samp(value, 0).confidence_interval(0.9)
    assert stats.student(value, range(6), level=0.9) == pytest.approx(tuple(wanted))
    sums, sizes = [1.0, 0.5, 2.0, 0.0, 1.5], [2, 1, 3, 1, 2]  # clusters of equal values: the ratio of sums by hand
    value = [s / n for s, n in zip(sums, sizes) for _ in range(n)]
    names = [c for c, n in enumerate(sizes) for _ in range(n)]
    mean = sum(sums) / 9
    error = math.sqrt(5 / 4 * sum((s - mean * n) ** 2 for s, n in zip(sums, sizes))) / 9
    half = scipy_stats.t.ppf(0.975, 4) * error
    assert stats.student(value, names) == pytest.approx((mean - half, mean + half))
    assert stats.student([0.3], ["a"]) == (0.3, 0.3)


def test_few_clusters_are_taken_for_labels():
    x = np.random.default_rng(0).normal(size=60)
    same = stats.bootstrap(x, ["only one kind"] * 60)
    assert np.array_equal(same, stats.bootstrap(x, list(range(60))))
    assert same[0] < same[-1]


def test_effective_n():
    """Clusters whose items agree: 30 clusters of 4 are worth about 30. Independent items: never more than n."""
    rng = np.random.default_rng(0)
    per_cluster = (rng.random(30) < 0.5).astype(float)
    assert stats.effective_n(np.repeat(per_cluster, 4), list(np.repeat(range(30), 4))) == pytest.approx(29, abs=1)
    alone = (rng.random(100) < 0.5).astype(float)
    assert 90 < stats.effective_n(alone, list(range(100))) <= 100
    assert stats.effective_n([1.0] * 8, list(range(8))) == 8


def test_interval_of_all_right_is_not_a_point():
    """Wilson for 50 of 50: low = n / (n + z^2) = 50 / 53.84 = 0.929."""
    found = stats.interval([1.0] * 50, list(range(50)))
    assert (found.value, found.high, found.n) == (1.0, pytest.approx(1.0), 50)
    assert found.low == pytest.approx(0.9287, abs=1e-4)


def test_paired_wald_by_hand():
    """b = 8 gained, c = 2 lost, n = 98: up = 9/100, down = 3/100, d = 0.06, variance (0.12 - 0.0036) / 100 = 0.001164,
    standard error 0.034117, times 1.959964 = 0.066869: [-0.00687, 0.12687]."""
    assert stats.paired_wald(8, 2, 98, 0.95) == pytest.approx((-0.006869, 0.126869), abs=1e-5)


def test_corrected_rate_by_hand():
    """Se = Sp = 0.9, seen 0.5: (0.5 + 0.9 - 1) / (0.9 + 0.9 - 1) = 0.4 / 0.8 = 0.5. Seen 0.1: 0 / 0.8 = 0."""
    good = (90, 100), (90, 100)
    assert stats.corrected_rate(0.5, 200, *good).value == pytest.approx(0.5)
    assert stats.corrected_rate(0.1, 200, *good).value == pytest.approx(0.0)
    with pytest.raises(ValueError, match="says nothing"):
        stats.corrected_rate(0.5, 200, (40, 100), (50, 100))


def test_correction_widens_the_interval_with_the_detectors_uncertainty():
    def width(labels):
        found = stats.corrected_rate(0.5, 300, (round(0.9 * labels), labels), (round(0.9 * labels), labels))
        return found.high - found.low

    assert width(20) > width(200) > width(20_000)
    low, high = stats.wilson(150, 300)
    assert width(20_000) == pytest.approx((high - low) / 0.8, rel=0.05)


def test_corrected_interval_covers():
    """True rate 0.7, Se 0.9 of 129, Sp 0.965 of 321, 150 items: about 95 of 100 intervals hold 0.7."""
    rng, hits = np.random.default_rng(0), 0
    for seed in range(200):
        seen = rng.binomial(150, 0.7 * 0.9 + 0.3 * 0.035) / 150
        measured = (int(rng.binomial(129, 0.9)), 129), (int(rng.binomial(321, 0.965)), 321)
        found = stats.corrected_rate(seen, 150, *measured, draws=2000, seed=seed)
        hits += found.low <= 0.7 <= found.high
    assert 183 <= hits <= 199


def test_minimum_detectable_drop_by_hand():
    """Ten percent of 250 items change: (1.6449 + 0.8416) x sqrt(0.1 / 250) = 2.4865 x 0.02 = 0.0497."""
    assert stats.minimum_detectable_drop(0.1, 250) == pytest.approx(0.0497, abs=1e-4)


def test_items_to_decide_by_hand():
    """Half width 0.04 at 100 items, difference 0.02 off the margin: N = 100 x (0.04 / 0.02)^2 = 400, so 300 more."""
    assert stats.items_to_decide(0.04, 0.02, 100) == 300
    assert stats.items_to_decide(0.04, 0.0, 100) == float("inf")
