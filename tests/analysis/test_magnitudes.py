"""Shares, Gini coefficient and Weibull shape, compared with closed forms and scipy."""

import numpy as np
import pytest
from scipy import stats

from lca.analysis.magnitudes import Magnitudes, count_by_size, fit_weibull_shape, split_by_sign


def test_shares_and_gini_equal_values_computed_by_hand():
    magnitudes = Magnitudes(np.array([1.0, 2.0, 10.0]), np.array([6, 3, 1]))
    assert (magnitudes.n, magnitudes.total) == (10, 22)
    assert magnitudes.share_of_top(0.1) == pytest.approx(10 / 22)
    assert magnitudes.share_of_top(0.2) == pytest.approx(12 / 22)
    assert magnitudes.share_of_top(0.25) == pytest.approx(13 / 22)  # half of the third-largest value
    assert magnitudes.share_beyond(1.5) == pytest.approx(16 / 22)
    assert magnitudes.share_beyond(2.0) == pytest.approx(10 / 22)
    # mean absolute difference over twice the mean: Σ|x_i − x_j| = 2 (6·3·1 + 6·1·9 + 3·1·8) = 192
    assert magnitudes.gini == pytest.approx(192 / (2 * 10**2 * 2.2))
    assert Magnitudes(np.array([3.0]), np.array([5])).gini == pytest.approx(0)


@pytest.mark.parametrize("k", [0.2, 0.7, 1.0, 3.5])
@pytest.mark.parametrize("scale", [1e-9, 1.0])
def test_weibull_shape_equals_scipy(k, scale):
    values = stats.weibull_min.rvs(k, scale=scale, size=20_000, random_state=np.random.default_rng(2))
    shape = fit_weibull_shape(values)
    assert shape == pytest.approx(k, rel=0.03)
    fitted, _, _ = stats.weibull_min.fit(values / values.mean(), floc=0)
    assert shape == pytest.approx(fitted, rel=1e-3)

    def likelihood(c):  # log-likelihood at the best scale for shape c
        return stats.weibull_min.logpdf(values, c, scale=(values**c).mean() ** (1 / c)).sum()

    assert likelihood(shape) > max(likelihood(shape * 1.01), likelihood(shape / 1.01))


@pytest.mark.parametrize("k", [0.3, 1.0, 2.5])
def test_truncated_weibull_shape_does_not_depend_on_the_cut(k):
    values = stats.weibull_min.rvs(k, scale=1e-6, size=100_000, random_state=np.random.default_rng(3))
    for quantile in (0.2, 0.5):
        cut = float(np.quantile(values, quantile))
        kept = values[values > cut]
        shape = fit_weibull_shape(kept, cut)
        assert shape == pytest.approx(k, rel=0.05)

        def likelihood(c, kept=kept, cut=cut):  # of the truncated distribution, at the best scale for shape c
            scale = (np.mean(kept**c) - cut**c) ** (1 / c)
            each = stats.weibull_min.logpdf(kept, c, scale=scale) - stats.weibull_min.logsf(cut, c, scale=scale)
            return each.sum()

        assert likelihood(shape) > max(likelihood(shape * 1.01), likelihood(shape / 1.01))


def test_tail_that_is_heavier_than_a_power_law_has_shape_0():
    exponents = np.random.default_rng(4).exponential(size=10_000) ** 2
    assert fit_weibull_shape(np.exp(exponents[exponents < 300]), 1.0) == 0


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0]])
def test_weibull_shape_requires_two_distinct_values(values):
    assert np.isnan(fit_weibull_shape(np.array(values)))


def test_values_are_assigned_to_bins_by_size():
    values = np.array([0.0, -0.0, 1e-45, -1e-45, 3e-20, -2.5, -2.501, 7e30], np.float32)
    below, above = split_by_sign(count_by_size(values.reshape(2, 4)), 3, 3)
    assert below.counts.tolist() == [1, 2]
    assert above.counts.tolist() == [1, 1, 1]
    np.testing.assert_allclose(below.values[1], 2.5, rtol=4e-3)
    np.testing.assert_allclose(above.values[1:], [3e-20, 7e30], rtol=4e-3)
