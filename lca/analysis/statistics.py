"""Tests over runs, one p-value for each row; NaN where there is nothing to test."""

import warnings
from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def mean_and_deviation(values: ArrayLike) -> tuple[Floats, Floats]:
    """values (run, …) -> the mean over runs and the sample standard deviation, which is NaN for a single run."""
    array = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # where a run's value is infinite there is no deviation
        deviation = array.std(axis=0, ddof=1) if len(array) > 1 else np.full(array.shape[1:], np.nan)
    return array.mean(axis=0), np.asarray(deviation)


def differs_from_zero(values: ArrayLike) -> Floats:
    """values (run, row) -> the p-values (row,) of two-sided one-sample t-tests of the mean over runs against 0."""
    return _by_row(lambda a: scipy.stats.ttest_1samp(a, 0).pvalue, values)


def differs_in_pairs(first: ArrayLike, second: ArrayLike) -> Floats:
    """(run, row) twice, of the same runs -> those of two-sided paired t-tests."""
    return differs_from_zero(np.asarray(first, np.float64) - np.asarray(second, np.float64))


def differs_between(first: ArrayLike, second: ArrayLike) -> Floats:
    """(run, row), (other run, row) -> those of two-sided t-tests with unequal variances (Welch's)."""
    return _by_row(lambda a, b: scipy.stats.ttest_ind(a, b, equal_var=False).pvalue, first, second)


def _by_row(test: Callable[..., float], *groups: ArrayLike) -> Floats:
    """No test without two runs in each group, nor where no group has any spread, as in a layer that is frozen."""
    arrays = [np.asarray(group, np.float64) for group in groups]
    p = np.full(arrays[0].shape[1], np.nan)
    for row in range(len(p)):
        columns = [array[:, row] for array in arrays]
        if min(map(len, columns)) > 1 and any(np.ptp(column) > 0 for column in columns):
            with warnings.catch_warnings():  # scipy warns of a group that is all the same, whose variance is 0
                warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
                p[row] = test(*columns)
    return p
