"""The tails of the distribution of LCA within each iteration.

If iterations of different scales are pooled, even Gaussian values have heavy tails. Within one iteration, they do not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lca.analysis.iterations import Iterations
from lca.analysis.tiles import Tile

# The upper 13 bits of a float32 give its bin: sign, exponent and four bits of the mantissa. A bin is 3 to 6 % wide.
DROPPED_BITS = 19
N_BINS = 2 ** (32 - DROPPED_BITS)
N_MAGNITUDES = N_BINS // 2

Floats = NDArray[np.float64]


def expect_beyond(deviations: float) -> float:
    """Return the share of E|x| that is due to |x| > kσ, for a Gaussian x with mean 0: exp(−k²/2)."""
    return float(np.exp(-(deviations**2) / 2))


class IterationTails:
    """Collects a histogram of the LCA of each iteration, from the tiles of `lca`.

    The histograms have shape (N_BINS, T). Bins that remain empty take up no memory, because the operating system
    allocates the pages of an array of zeros only when they are written.
    """

    def __init__(self, chosen: Iterations) -> None:
        self.chosen = chosen
        self.counts = np.zeros((N_BINS, len(chosen.mask)), np.int32)

    def add(self, tile: Tile) -> None:
        values = np.ascontiguousarray(tile.used_values, np.float32)
        codes = (values.view(np.uint32) >> np.uint32(DROPPED_BITS)).T.astype(np.int64)
        columns = tile.columns.start + np.flatnonzero(tile.mask)
        if columns.size:
            found = np.array([np.bincount(of_iteration, minlength=N_BINS) for of_iteration in codes], np.int32)
            occupied = np.flatnonzero(found.any(axis=0))
            self.counts[occupied[:, None], columns] += found[:, occupied].T

    def measure(self, deviations: Sequence[float]) -> dict[str, Floats]:
        """Return how much the values beyond k standard deviations contribute to Σ|LCA|, relative to a Gaussian.

        `deviations` contains the values of k, and every iteration has its own standard deviation. The keys are
        "helped", "hurt" and "both", for the values below 0, above 0 and all of them. Each array has shape
        (T, len(deviations)) and contains the share of Σ|LCA| divided by the share for a Gaussian. It is NaN in
        iterations that are excluded or have no values of that sign. Magnitudes below 1e-39 count as 0.
        """
        occupied = np.flatnonzero(self.counts.any(axis=1))
        codes = np.unique(occupied % N_MAGNITUDES).astype(np.uint32)
        codes = codes[codes > 0]  # zeros are in the first bin
        low, high = ((code << DROPPED_BITS).view(np.float32).astype(np.float64) for code in (codes, codes + 1))
        above, below = self.counts[codes].astype(np.float64), self.counts[codes + N_MAGNITUDES].astype(np.float64)
        both, centers = below + above, (low + high) / 2
        with np.errstate(invalid="ignore"):  # n is 0 in an iteration without values
            n = both.sum(axis=0)
            deviation = np.sqrt(np.maximum(centers**2 @ both / n - (centers @ (above - below) / n) ** 2, 0))
        found = {part: np.full((len(n), len(deviations)), np.nan) for part in ("helped", "hurt", "both")}
        for part, counts in (("helped", below), ("hurt", above), ("both", both)):
            for t in np.flatnonzero(self.chosen.mask & counts.any(axis=0)):
                sums = centers * counts[:, t]
                for i, k in enumerate(deviations):
                    beyond = sum_beyond(k * deviation[t], low, high, sums)
                    found[part][t, i] = beyond / sums.sum() / expect_beyond(k)
        return found


def sum_beyond(limit: float, low: Floats, high: Floats, sums: Floats) -> float:
    """Return the sum of the magnitudes beyond a limit, given their sum in each bin and the edges of the bins.

    Within the bin that contains the limit, the sum beyond it is assumed to fall exponentially as the limit rises,
    because the density of a tail is steep.
    """
    at = int(np.searchsorted(high, limit, "right"))
    if at == len(sums):
        return 0.0
    beyond, here = float(sums[at + 1 :].sum()), float(sums[at])
    part = max(0.0, float(limit - low[at])) / float(high[at] - low[at])
    if not beyond:
        return here * (1 - part)
    return float(beyond * ((beyond + here) / beyond) ** (1 - part))
