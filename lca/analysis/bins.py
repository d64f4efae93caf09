"""Bins of successive iterations, and means over them that ignore missing values."""

import numpy as np
from numpy.typing import NDArray

from lca.store.blocks import ceil_div

Floats = NDArray[np.float64]
Edges = NDArray[np.int64]


def make_edges(n: int, at_most: int) -> Edges:
    """Divide n items into at most `at_most` bins of equal length. The last bin may be shorter.

    Returns the edges, shape (bins + 1,).
    """
    return make_edges_every(n, ceil_div(n, at_most))


def make_edges_every(n: int, length: int) -> Edges:
    """Divide n items into bins of the given length. The last bin may be shorter. Returns edges of shape (bins + 1,)."""
    return np.unique(np.append(np.arange(0, n, length), n))


def thin(n: int, at_most: int) -> Edges:
    """Return at most `at_most` evenly spaced indices of n items, including the first and the last."""
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).round().astype(np.int64))


def find_centers(edges: Edges) -> Floats:
    """Return the center of each bin, as an index that may be fractional. `edges` has shape (bins + 1,)."""
    return (edges[:-1] + edges[1:] - 1) / 2


def count_in_bins(flags: NDArray[np.bool_], edges: Edges) -> NDArray[np.int64]:
    """Count the True values of `flags`, shape (n,), in each bin."""
    return np.asarray(np.add.reduceat(flags, edges[:-1], dtype=np.int64))


def mean_in_bins(values: Floats, edges: Edges, axis: int = 0) -> Floats:
    """Average the values in each bin along an axis, ignoring NaN. The mean of a bin is NaN if all its values are."""
    n = np.add.reduceat(np.isfinite(values), edges[:-1], axis=axis, dtype=np.int64)
    sums = np.add.reduceat(np.nan_to_num(values), edges[:-1], axis=axis)
    return np.asarray(np.divide(sums, n, out=np.full(sums.shape, np.nan), where=n > 0))
