"""Statistics against other people's: scipy's bootstrap and binomial test, statsmodels' cluster-robust errors."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats as scipy_stats

from posttrain import stats


def test_percentile_bootstrap_is_scipys():
    """Both draw 10,000 resamples of 150 skewed values; the ends agree to Monte-Carlo error (2% of the width)."""
    x = np.random.default_rng(0).exponential(size=150)
    ours = stats.percentiles(stats.bootstrap(x, range(150)))
    theirs = scipy_stats.bootstrap(
        (x,), np.mean, n_resamples=10_000, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.04 * width)


@pytest.mark.parametrize("size", [1, 4, 10])
def test_cluster_bootstrap_has_the_error_of_statsmodels_clusters(size):
    """Regression on a constant with cluster-robust covariance; 60 clusters whose members share a shift."""
    rng = np.random.default_rng(size)
    group = np.repeat(np.arange(60), size)
    x = rng.normal(size=60)[group] + rng.normal(size=60 * size)
    robust = sm.OLS(x, np.ones_like(x)).fit(cov_type="cluster", cov_kwds={"groups": group}).bse[0]
    assert stats.bootstrap(x, list(group)).std() == pytest.approx(robust, rel=0.05)


def test_effective_n_gives_the_cluster_robust_error_of_a_rate():
    """p (1 - p) / n_eff is the square of the cluster-robust standard error, up to C / (C - 1)."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(80), 5)
    x = (rng.random(80)[group] + rng.random(400) > 1.0).astype(float)
    robust = sm.OLS(x, np.ones_like(x)).fit(cov_type="cluster", cov_kwds={"groups": group}).bse[0]
    p = x.mean()
    assert (p * (1 - p) / stats.effective_n(x, list(group))) ** 0.5 == pytest.approx(robust, rel=0.02)


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (3, 9), (20, 21), (50, 10)])
def test_mcnemar_is_the_binomial_test(gained, lost):
    assert stats.mcnemar(gained, lost) == pytest.approx(scipy_stats.binomtest(gained, gained + lost).pvalue)


def test_adjusted_wald_covers_paired_differences():
    """Bonett and Price's interval at n = 60, 15% of pairs changing: it covers the truth 95% of the time or more."""
    rng, n, gain, lose = np.random.default_rng(4), 60, 0.10, 0.05
    inside = 0
    for _ in range(2000):
        gained, lost, _ = rng.multinomial(n, [gain, lose, 1 - gain - lose])
        low, high = stats.paired_wald(int(gained), int(lost), n, 0.95)
        inside += low <= gain - lose <= high
    assert 0.94 <= inside / 2000 <= 0.99


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95, 0.99])
def test_quantiles_are_scipys(level):
    assert stats.quantile(level) == pytest.approx(scipy_stats.norm.interval(level)[1])
