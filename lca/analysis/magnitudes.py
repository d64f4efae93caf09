"""Histograms of |LCA| with logarithmic bins, and heavy-tail statistics computed from them."""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

# The bin of a float32 is given by its upper 17 bits: sign, exponent and eight bits of the mantissa. Every bin is 0.2 to
# 0.4 % wide, so a sum over many values has five correct digits.
DROPPED_BITS = 15
N_FLOAT_BINS = 2 ** (32 - DROPPED_BITS)
SMALLEST_SHAPE = 2**-10  # a Weibull distribution with a smaller k cannot be distinguished from a power law

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Magnitudes:
    """A histogram of the absolute values of LCA.

    Attributes:
        values: Centers of the bins, ascending, in units of the loss, shape (bins,).
        counts: Number of values in each bin, shape (bins,).
    """

    values: Floats
    counts: Counts

    @property
    def n(self) -> int:
        """The number of values."""
        return int(self.counts.sum())

    @property
    def total(self) -> float:
        """The sum of all values."""
        return float(self.values @ self.counts)

    def percentile(self, percent: float) -> float:
        """Return the given percentile of the values, or NaN if there are none."""
        at = np.searchsorted(np.cumsum(self.counts), percent / 100 * self.n)
        return float(self.values[at]) if self.n else float("nan")

    def histogram(self, edges: Floats) -> Floats:
        """Count the values between successive edges.

        If an edge lies within a bin, the count of the bin is divided in proportion.
        """
        if not self.n:
            return np.zeros(len(edges) - 1)
        _, exponents = np.frexp(self.values)
        half_widths = np.ldexp(2.0 ** -(24 - DROPPED_BITS), exponents - 1)
        ends = np.stack([self.values - half_widths, self.values + half_widths], axis=1).ravel()
        up_to = np.cumsum(self.counts)
        below = np.stack([up_to - self.counts, up_to], axis=1).ravel()
        return np.asarray(np.diff(np.interp(edges, ends, below)))

    def share_of_top(self, part: float) -> float:
        """Return the share of the total contributed by the largest values, a fraction ``part`` of all values."""
        counts, values = self.counts[::-1], self.values[::-1]
        before = np.cumsum(counts) - counts
        taken = np.clip(part * self.n - before, 0, counts)
        return float(taken @ values / self.total) if self.n else float("nan")

    def share_beyond(self, limit: float) -> float:
        """Return the share of the total that values above a limit contribute."""
        beyond = self.values > limit
        return float(self.values[beyond] @ self.counts[beyond] / self.total) if self.n else float("nan")

    @property
    def gini(self) -> float:
        """The Gini coefficient: 0 if all values are equal, near 1 if few values make up most of the total.

        It equals 1 minus twice the area under the Lorenz curve.
        """
        if not self.n:
            return float("nan")
        people = np.cumsum(self.counts) / self.n
        wealth = np.cumsum(self.counts * self.values) / self.total
        return float(1 - np.sum(np.diff(people, prepend=0) * (wealth + np.append(0, wealth[:-1]))))


def count_by_size(values: NDArray[np.floating]) -> Counts:
    """Count the values in each of the N_FLOAT_BINS bins. The second half of the bins is for negative values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.bincount((bits >> DROPPED_BITS).ravel(), minlength=N_FLOAT_BINS)


def split_by_sign(counts: Counts, n_below: int, n_above: int) -> tuple[Magnitudes, Magnitudes]:
    """Return the magnitudes of the negative and of the positive values.

    `counts` has shape (N_FLOAT_BINS,). `n_below` and `n_above` are the numbers of negative and positive values.
    """
    codes = np.arange(N_FLOAT_BINS, dtype=np.uint32) << DROPPED_BITS
    values = (codes | 1 << (DROPPED_BITS - 1)).view(np.float32)  # centers of the bins
    half = N_FLOAT_BINS // 2
    finite = np.isfinite(values[:half])
    middles = values[:half][finite].astype(np.float64)
    above, below = counts[:half][finite], counts[half:][finite]
    above[0] = n_above - above[1:].sum()  # exclude zeros, which share the bin of the smallest values
    below[0] = n_below - below[1:].sum()
    return _keep_occupied(middles, below), _keep_occupied(middles, above)


def fit_weibull_shape(values: Floats, cut: float = 0.0) -> float:
    """Fit the shape k of a Weibull distribution to positive values by maximum likelihood.

    If `cut` is c > 0, the values must lie above it, and this fits a Weibull distribution truncated at c. k solves

        (Σ xᵏ ln x / n − cᵏ ln c) / (Σ xᵏ / n − cᵏ) − 1/k = Σ ln x / n,

    without the terms in c if c = 0.     [Johnson, Kotz, Balakrishnan 1994, ch. 21; Wingo 1989 for the truncated form]

    Returns NaN if there are fewer than two distinct values, and 0 if the tail is as heavy as that of a power law.
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return float("nan")
    logs = np.log(values)
    log_cut = np.log(cut) - logs.max() if cut else 0.0
    logs -= logs.max()  # k does not depend on the scale, and powers must not overflow

    def excess(k: float) -> float:
        powers, power_of_cut = np.exp(k * logs), np.exp(k * log_cut) if cut else 0.0
        slope = (np.mean(powers * logs) - power_of_cut * log_cut) / (np.mean(powers) - power_of_cut)
        return float(slope - 1 / k - logs.mean())

    low = high = 1.0
    while excess(low) > 0:
        low /= 2
        if low < SMALLEST_SHAPE:
            return 0.0
    while excess(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(excess, low, high)) if low < high else low


def _keep_occupied(values: Floats, counts: Counts) -> Magnitudes:
    return Magnitudes(values[counts > 0], counts[counts > 0])
