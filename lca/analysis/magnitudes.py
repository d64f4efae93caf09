"""Histograms of |LCA| over so many magnitudes that linear bins would not do, and what follows from them."""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

# A histogram over the upper 17 bits of a float32: its sign, its exponent and eight bits of its mantissa. A bin is 0.2
# to 0.4 % wide wherever it lies, so a sum over many of them has five correct digits.
DROPPED_BITS = 15
N_FLOAT_BINS = 2 ** (32 - DROPPED_BITS)

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Magnitudes:
    """How large |LCA| is: values (bin,), ascending, in the loss's unit, and how many there are, counts."""

    values: Floats
    counts: Counts

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def total(self) -> float:
        return float(self.values @ self.counts)

    def percentile(self, percent: float) -> float:
        """The value that this percentage of them does not exceed; NaN if there are none."""
        at = np.searchsorted(np.cumsum(self.counts), percent / 100 * self.n)
        return float(self.values[at]) if self.n else float("nan")

    def histogram(self, edges: Floats) -> Floats:
        """How many lie between each two edges, ascending; a bin that an edge divides is shared by both sides."""
        if not self.n:
            return np.zeros(len(edges) - 1)
        _, exponents = np.frexp(self.values)
        half_widths = np.ldexp(2.0 ** -(24 - DROPPED_BITS), exponents - 1)
        ends = np.stack([self.values - half_widths, self.values + half_widths], axis=1).ravel()
        up_to = np.cumsum(self.counts)
        below = np.stack([up_to - self.counts, up_to], axis=1).ravel()
        return np.asarray(np.diff(np.interp(edges, ends, below)))

    def share_of_top(self, part: float) -> float:
        """The share of the total that the largest `part` of the values contribute."""
        counts, values = self.counts[::-1], self.values[::-1]
        before = np.cumsum(counts) - counts
        taken = np.clip(part * self.n - before, 0, counts)
        return float(taken @ values / self.total) if self.n else float("nan")

    def share_beyond(self, limit: float) -> float:
        """The share of the total that values above a limit contribute."""
        beyond = self.values > limit
        return float(self.values[beyond] @ self.counts[beyond] / self.total) if self.n else float("nan")

    @property
    def gini(self) -> float:
        """The Gini coefficient: 0 if all contribute equally, 1 if a single one contributes everything.

        It is 1 minus twice the area under the Lorenz curve.
        """
        if not self.n:
            return float("nan")
        people = np.cumsum(self.counts) / self.n
        wealth = np.cumsum(self.counts * self.values) / self.total
        return float(1 - np.sum(np.diff(people, prepend=0) * (wealth + np.append(0, wealth[:-1]))))


def count_by_size(values: NDArray[np.floating]) -> Counts:
    """values (…), any sign -> how many fall into each bin, (N_FLOAT_BINS,); those below 0 are in the second half."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.bincount((bits >> DROPPED_BITS).ravel(), minlength=N_FLOAT_BINS)


def split_by_sign(counts: Counts, n_below: int, n_above: int) -> tuple[Magnitudes, Magnitudes]:
    """counts (N_FLOAT_BINS,) -> the magnitudes of the values below and above 0, which are n_below and n_above."""
    codes = np.arange(N_FLOAT_BINS, dtype=np.uint32) << DROPPED_BITS
    values = (codes | 1 << (DROPPED_BITS - 1)).view(np.float32)  # the middles of the bins
    half = N_FLOAT_BINS // 2
    finite = np.isfinite(values[:half])
    middles = values[:half][finite].astype(np.float64)
    above, below = counts[:half][finite], counts[half:][finite]
    above[0] = n_above - above[1:].sum()  # without the zeros, which share the bin of the smallest values
    below[0] = n_below - below[1:].sum()
    return _keep_occupied(middles, below), _keep_occupied(middles, above)


def fit_weibull_shape(values: Floats) -> float:
    """values (n,), positive -> the shape k of maximum likelihood; NaN for fewer than two different ones.

    Σ xᵏ ln x / Σ xᵏ − 1/k = mean ln x, whose left side grows with k     [Johnson, Kotz, Balakrishnan 1994, ch. 21]
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return float("nan")
    logs = np.log(values)
    logs -= logs.max()  # the scale does not matter, and powers must not overflow

    def excess(k: float) -> float:
        powers = np.exp(k * logs)
        return float(powers @ logs / powers.sum() - 1 / k - logs.mean())

    low = high = 1.0
    while excess(low) > 0:
        low /= 2
    while excess(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(excess, low, high)) if low < high else low


def _keep_occupied(values: Floats, counts: Counts) -> Magnitudes:
    return Magnitudes(values[counts > 0], counts[counts > 0])
