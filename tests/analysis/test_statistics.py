"""Significance tests over runs, compared with scipy."""

import numpy as np
from scipy import stats

from lca.analysis.answer import format_p
from lca.analysis.statistics import (
    correct_for_rows,
    differs_between,
    differs_from_zero,
    differs_in_pairs,
    mean_and_deviation,
    share,
)


def test_deviation_is_the_sample_standard_deviation():
    mean, deviation = mean_and_deviation([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]])
    np.testing.assert_allclose(mean, [3, 10])
    np.testing.assert_allclose(deviation, [7**0.5, 0])
    mean, deviation = mean_and_deviation([5.0])
    assert (float(mean), np.isnan(deviation)) == (5.0, True)


def test_p_values_equal_scipy():
    a, b = np.random.default_rng(0).normal(size=(2, 6, 4))
    b[:, 0] += 3
    np.testing.assert_allclose(differs_from_zero(a), stats.ttest_1samp(a, 0).pvalue)
    np.testing.assert_allclose(differs_in_pairs(a, b), stats.ttest_rel(a, b).pvalue)
    np.testing.assert_allclose(differs_between(a, b[:4]), stats.ttest_ind(a, b[:4], equal_var=False).pvalue)
    assert differs_between(a, b)[0] < 0.01


def test_p_values_are_corrected_for_the_number_of_rows():
    """Holm's method multiplies p = 0.01, 0.02, 0.03 and 0.04 by 4, 3, 2 and 1, and lets no result decrease."""
    np.testing.assert_allclose(correct_for_rows([0.03, 0.01, np.nan, 0.04, 0.02]), [0.06, 0.04, np.nan, 0.06, 0.06])
    np.testing.assert_allclose(correct_for_rows([0.5, 0.9]), [1, 1])


def test_share_of_nearly_zero_is_nan():
    np.testing.assert_allclose(share([1.0, -3.0, 9.9, 11.0], 1.0), [100, -300, 990, np.nan])
    np.testing.assert_allclose(share([1.0, 0.0], [0.0, 0.0]), [np.nan, np.nan])


def test_impossible_tests_give_nan():
    frozen = np.zeros((3, 1))
    assert np.isnan(differs_from_zero(frozen)).all()
    assert np.isnan(differs_from_zero([[1.0]])).all()
    assert np.isnan(differs_between([[1.0]], [[2.0], [3.0]])).all()
    assert format_p(np.nan) == "–"
    assert (format_p(0.0123), format_p(3.14e-7), format_p(0.0)) == ("0.012", "3.1e-07", "< 1e-16")


def test_infinite_and_constant_values_give_no_warning():
    mean, deviation = mean_and_deviation([[np.inf], [np.inf]])
    assert (mean[0], np.isnan(deviation[0])) == (np.inf, True)
    assert 0 < differs_between([[2.0], [2.0]], [[3.0], [4.0]])[0] < 1
