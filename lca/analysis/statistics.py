"""Means and significance tests over runs. A test returns one p-value per row, or NaN if it cannot be computed."""

import warnings
from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LARGEST_SHARE = 10  # a share is NaN if the part is at least this multiple of the total


def mean_and_deviation(values: ArrayLike) -> tuple[Floats, Floats]:
    """Return the mean and sample standard deviation over the first axis. The deviation of a single run is NaN."""
    array = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # the deviation of infinite values is NaN
        deviation = array.std(axis=0, ddof=1) if len(array) > 1 else np.full(array.shape[1:], np.nan)
    return array.mean(axis=0), np.asarray(deviation)


def share(part: ArrayLike, of: ArrayLike) -> Floats:
    """Return `part` as a percentage of `of`.

    The result is NaN if |part| is at least LARGEST_SHARE times |of|, because a share of nearly nothing is meaningless.
    """
    part, of = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(of, np.float64))
    means_something = np.abs(part) < LARGEST_SHARE * np.abs(of)
    return np.asarray(np.divide(100 * part, of, out=np.full(part.shape, np.nan), where=means_something))


def differs_from_zero(values: ArrayLike) -> Floats:
    """Test whether the mean over runs of `values`, shape (runs, rows), is 0, by two-sided one-sample t-tests."""
    return _by_row(lambda a: scipy.stats.ttest_1samp(a, 0).pvalue, values)


def differs_in_pairs(first: ArrayLike, second: ArrayLike) -> Floats:
    """Test two quantities of the same runs, each of shape (runs, rows), for equal means, by paired t-tests."""
    return differs_from_zero(np.asarray(first, np.float64) - np.asarray(second, np.float64))


def differs_between(first: ArrayLike, second: ArrayLike) -> Floats:
    """Test two groups of runs, each of shape (runs, rows), for equal means, by two-sided Welch t-tests."""
    return _by_row(lambda a, b: scipy.stats.ttest_ind(a, b, equal_var=False).pvalue, first, second)


def correct_for_rows(p: ArrayLike) -> Floats:
    """Correct p-values, shape (rows,), for the number of rows tested, by Holm's method. NaN remains NaN.

    A corrected value bounds the probability that at least one test is this significant by chance [Holm 1979].
    """
    raw = np.asarray(p, np.float64)
    corrected = np.full(raw.shape, np.nan)
    order = np.argsort(raw)[: int(np.isfinite(raw).sum())]  # NaN is sorted to the end
    corrected[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def _by_row(test: Callable[..., float], *groups: ArrayLike) -> Floats:
    """Apply a test to each row.

    The result is NaN if a group has fewer than two runs, or if no group varies, as with a frozen layer.
    """
    arrays = [np.asarray(group, np.float64) for group in groups]
    p = np.full(arrays[0].shape[1], np.nan)
    for row in range(len(p)):
        columns = [array[:, row] for array in arrays]
        if min(map(len, columns)) > 1 and any(np.ptp(column) > 0 for column in columns):
            with warnings.catch_warnings():  # scipy warns if all values of a group are equal
                warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
                p[row] = test(*columns)
    return p
