"""How heavy are the tails of the distribution of LCA?     [arXiv 1909.01440, section 3, figures 3b, S10]"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from lca.analysis.answer import Column, Report, Table
from lca.analysis.iterations import Iterations, iterations
from lca.analysis.tiles import Tile, feed
from lca.store.run import Run

# A histogram over the upper 17 bits of a float32: its sign, its exponent and eight bits of its mantissa, so that a bin
# is 0.2 to 0.4 % wide wherever it lies, and what is summed over many of them is good to five digits.
DROPPED_BITS = 15
N_BINS = 2 ** (32 - DROPPED_BITS)

N_LOG_BINS = 100  # of the histogram for programs
N_SAMPLE = 2**18  # of the K × T values for the fit of the Weibull distribution: k to a relative 0.2 %
DEVIATIONS = (1, 2, 3)
TOP = (0.01, 0.1)

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
        """The value that so many percent of them do not exceed; of none it is NaN."""
        at = np.searchsorted(np.cumsum(self.counts), percent / 100 * self.n)
        return float(self.values[at]) if self.n else float("nan")

    def histogram(self, edges: Floats) -> Floats:
        """How many there are between each two edges, ascending; a bin that an edge divides counts on both sides."""
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
        """The share of the total that values over a limit contribute."""
        beyond = self.values > limit
        return float(self.values[beyond] @ self.counts[beyond] / self.total) if self.n else float("nan")

    @property
    def gini(self) -> float:
        """The Gini coefficient: 0 if all contribute alike, 1 if a single one contributes everything.

        One less twice the area under the Lorenz curve.
        """
        if not self.n:
            return float("nan")
        people = np.cumsum(self.counts) / self.n
        wealth = np.cumsum(self.counts * self.values) / self.total
        return float(1 - np.sum(np.diff(people, prepend=0) * (wealth + np.append(0, wealth[:-1]))))


@dataclass(frozen=True)
class Tails:
    """The distribution of the LCA of all parameters in all iterations that count.

    helped, hurt: the sizes of what is below and above 0. n_zero: how many are 0; they are in no other figure.
    weibull_helped, weibull_hurt: the shape k of the Weibull distribution fitted to each by maximum likelihood, on every
    sample_step-th of the K × T values, of which n_helped_sampled and n_hurt_sampled were so.
    """

    helped: Magnitudes
    hurt: Magnitudes
    n_zero: int
    weibull_helped: float
    weibull_hurt: float
    sample_step: int
    n_helped_sampled: int
    n_hurt_sampled: int
    iterations: Iterations

    @property
    def both(self) -> Magnitudes:
        """Helping and hurting together."""
        values, where = np.unique(np.append(self.helped.values, self.hurt.values), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.append(self.helped.counts, self.hurt.counts))
        return Magnitudes(values, counts)

    def central_moment(self, order: int) -> float:
        """Of the non-zero LCA about their mean."""
        values = np.append(-self.helped.values, self.hurt.values)
        counts = np.append(self.helped.counts, self.hurt.counts)
        if not counts.sum():
            return float("nan")
        mean = values @ counts / counts.sum()
        return float((values - mean) ** order @ counts / counts.sum())

    @property
    def deviation(self) -> float:
        """The standard deviation of the non-zero LCA, in the loss's unit."""
        return float(np.sqrt(self.central_moment(2)))

    @property
    def kurtosis(self) -> float:
        """The excess kurtosis of the non-zero LCA: 0 for a Gaussian, NaN where they are all the same."""
        variance = self.central_moment(2)
        return self.central_moment(4) / variance**2 - 3 if variance > 0 else float("nan")

    def beyond(self, magnitudes: Magnitudes, deviations: float) -> float:
        """What is contributed beyond so many standard deviations, as a multiple of what a Gaussian would give.

        For a Gaussian about 0, E[|x|; |x| > kσ] / E|x| = exp(−k²/2); for its halves as well.
        """
        return magnitudes.share_beyond(deviations * self.deviation) / float(np.exp(-(deviations**2) / 2))


class Distribution:
    """Takes the tiles of `lca`."""

    def __init__(self, n_parameters: int, chosen: Iterations) -> None:
        self.chosen, self.T = chosen, len(chosen.counted)
        self.counts = np.zeros(N_BINS, np.int64)
        self.n_helped = self.n_hurt = self.n_zero = 0
        self.step = sample_step(n_parameters * self.T, self.T)
        self.sample: list[NDArray[np.float32]] = []

    def add(self, tile: Tile) -> None:
        values = np.ascontiguousarray(tile.counted_values, np.float32)
        self.counts += np.bincount((values.view(np.uint32) >> DROPPED_BITS).ravel(), minlength=N_BINS)
        n_helped, n_hurt = (int(np.bitwise_count(w).sum(dtype=np.int64)) for w in (tile.helped_words, tile.hurt_words))
        self.n_helped += n_helped
        self.n_hurt += n_hurt
        self.n_zero += values.size - n_helped - n_hurt
        first, end = -(-tile.rows.start * self.T // self.step), -(-tile.rows.stop * self.T // self.step)
        rows, columns = np.divmod(np.arange(first, end) * self.step, self.T)
        here = (columns >= tile.columns.start) & (columns < tile.columns.stop) & self.chosen.counted[columns]
        self.sample.append(tile.values[rows[here] - tile.rows.start, columns[here] - tile.columns.start])

    def result(self) -> Tails:
        codes = np.arange(N_BINS, dtype=np.uint32) << DROPPED_BITS
        values = (codes | 1 << (DROPPED_BITS - 1)).view(np.float32)  # the middles of the bins
        half = N_BINS // 2
        finite = np.isfinite(values[:half])
        middles = values[:half][finite].astype(np.float64)
        hurt, helped = self.counts[:half][finite], self.counts[half:][finite]
        hurt[0] = self.n_hurt - hurt[1:].sum()  # not the zeros, which share the bin of what is next to nothing
        helped[0] = self.n_helped - helped[1:].sum()
        sample = np.concatenate(self.sample).astype(np.float64)
        below, above = -sample[sample < 0], sample[sample > 0]
        return Tails(
            helped=_occupied(middles, helped),
            hurt=_occupied(middles, hurt),
            n_zero=self.n_zero,
            weibull_helped=weibull_shape(below),
            weibull_hurt=weibull_shape(above),
            sample_step=self.step,
            n_helped_sampled=len(below),
            n_hurt_sampled=len(above),
            iterations=self.chosen,
        )


def sample_step(n_values: int, T: int) -> int:
    """Every how many-th of the values to take: some N_SAMPLE of them, spread over all iterations."""
    step = max(n_values // N_SAMPLE, 1)
    while gcd(step, T) > 1:
        step += 1
    return step


def weibull_shape(values: Floats) -> float:
    """values (n,), positive -> the shape k of greatest likelihood; NaN for fewer than two different ones.

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
    return float(brentq(excess, low, high)) if low < high else low


def tails(run: Run, name: str = "train", unconverged: bool = False) -> Tails:
    """The distribution of the LCA."""
    allocation = run.allocation(name)
    distribution = Distribution(run.parameters.size, iterations(allocation, unconverged))
    feed(run, allocation.lca, distribution.chosen.counted, [distribution])
    return distribution.result()


def report(results: Sequence[Tails]) -> Report:
    """How heavy the tails are, over runs     [figure S10]"""
    parts = {"helping": "helped", "hurting": "hurt", "both": "both"}
    figures = {part: [_figures(result, getattr(result, name)) for result in results] for part, name in parts.items()}
    distribution = Table(
        "non-zero LCA",
        list(figures["both"][0]),
        {part: Column(np.array([list(f.values()) for f in of_runs]), 3) for part, of_runs in figures.items()},
    )
    zero = [100 * r.n_zero / (r.n_zero + r.both.n) for r in results]
    shape = {
        "excess kurtosis (Gaussian 0)": _column([r.kurtosis for r in results], 1),
        "Weibull k, helping": _column([r.weibull_helped for r in results], 3),
        "Weibull k, hurting": _column([r.weibull_hurt for r in results], 3),
        "zero %": _column(zero, 2),
    }
    first = results[0]
    note = (
        f"k by maximum likelihood on one of every {first.sample_step:,} values: {first.n_helped_sampled:,} helping and "
        f"{first.n_hurt_sampled:,} hurting ones" + (" of the first run" if len(results) > 1 else "")
    )
    sizes = [result.both.values for result in results if result.both.n]
    low, high = (min(x[0] for x in sizes), max(x[-1] for x in sizes)) if sizes else (1e-12, 1.0)
    edges = np.geomspace(low * 0.99, high * 1.01, N_LOG_BINS + 1)
    arrays = {
        "edges": edges,
        "helped": [result.helped.histogram(edges) for result in results],
        "hurt": [result.hurt.histogram(edges) for result in results],
        "zero": [result.n_zero for result in results],
    }
    return Report(
        "tails",
        [
            distribution,
            Table("", ["LCA"], shape, "the whole distribution"),
        ],
        [result.iterations for result in results],
        [note],
        arrays,
    )


def _column(values: Sequence[float], digits: int) -> Column:
    return Column(np.array(values)[:, None], digits)


def _figures(tails: Tails, part: Magnitudes) -> dict[str, float]:
    n = tails.both.n
    return {
        "part of the values %": 100 * part.n / n if n else float("nan"),
        **{f"contributed beyond {k} sd / by a Gaussian": tails.beyond(part, k) for k in DEVIATIONS},
        **{f"contributed by the top {100 * p:g} %, in %": 100 * part.share_of_top(p) for p in TOP},
        "Gini coefficient": part.gini,
    }


def _occupied(values: Floats, counts: Counts) -> Magnitudes:
    return Magnitudes(values[counts > 0], counts[counts > 0])
