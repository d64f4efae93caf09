"""Bins of time: means over them, with what does not count left out."""

import numpy as np
from numpy.typing import NDArray

from lca.store.blocks import ceil_div

Floats = NDArray[np.float64]
Edges = NDArray[np.int64]


def make_edges(n: int, at_most: int) -> Edges:
    """The bounds (bin + 1,) of at most this many bins of n things, all of the same length except the last."""
    return make_edges_every(n, ceil_div(n, at_most))


def make_edges_every(n: int, length: int) -> Edges:
    """The bounds (bin + 1,) of bins of this many of n things, the last of which may be shorter."""
    return np.unique(np.append(np.arange(0, n, length), n))


def thin(n: int, at_most: int) -> Edges:
    """The indices of at most this many of n things, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).round().astype(np.int64))


def find_centres(edges: Edges) -> Floats:
    """The centre of each bin of iterations."""
    return (edges[:-1] + edges[1:] - 1) / 2


def count_in_bins(flags: NDArray[np.bool_], edges: Edges) -> NDArray[np.int64]:
    """How many flags (n,) are set in each bin, (bin,)."""
    return np.asarray(np.add.reduceat(flags, edges[:-1], dtype=np.int64))


def mean_in_bins(values: Floats, edges: Edges, axis: int = 0) -> Floats:
    """The mean of what is not NaN in each bin along an axis; NaN where there is nothing else."""
    n = np.add.reduceat(np.isfinite(values), edges[:-1], axis=axis, dtype=np.int64)
    sums = np.add.reduceat(np.nan_to_num(values), edges[:-1], axis=axis)
    return np.asarray(np.divide(sums, n, out=np.full(sums.shape, np.nan), where=n > 0))
