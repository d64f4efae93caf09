"""How heavy are the tails of the distribution of LCA?     [arXiv 1909.01440, section 3, figures 3b, S10]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.cancellation import describe_cancelled, feed_lca, find_cancelled
from lca.analysis.iteration_tails import IterationTails, expect_beyond
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.magnitudes import N_FLOAT_BINS, Magnitudes, count_by_size, fit_weibull_shape, split_by_sign
from lca.analysis.question import Result, question
from lca.analysis.tiles import Tile
from lca.store.allocation import Allocation
from lca.store.blocks import ceil_div
from lca.store.run import Run

N_LOG_BINS = 100  # bins of the histogram written to JSON
N_SAMPLE = 2**18  # approximate size of the sample for the Weibull fits, at which k has a relative error of 0.2 %
DEVIATIONS = (1, 2, 3)  # multiples of the standard deviation beyond which the tails are measured
TOP = (0.01, 0.1)  # fractions of the values, from the largest down, whose share of Σ|LCA| is shown

Floats = NDArray[np.float64]
Describe = Callable[["Tails", str], dict[str, float]]


@dataclass(frozen=True)
class Weibull:
    """Shapes k of Weibull distributions fitted by maximum likelihood to the values above a cut.

    Very small values affect k as much as large ones do, so k depends on the cut.

    Attributes:
        cut: Magnitude, in units of the loss, above which values are used. If it is not 0, the fitted distributions are
            truncated at this magnitude.
        helped: k of the values below 0.
        hurt: k of the values above 0.
        n_helped: Number of values below 0 that were used.
        n_hurt: Number of values above 0 that were used.
    """

    cut: float
    helped: float
    hurt: float
    n_helped: int
    n_hurt: int

    @classmethod
    def fit(cls, sample: Floats, cut: float) -> Self:
        """Fit the distributions to a sample of LCA of shape (n,)."""
        below, above = -sample[sample < -cut], sample[sample > cut]
        return cls(cut, fit_weibull_shape(below, cut), fit_weibull_shape(above, cut), len(below), len(above))


@dataclass(frozen=True, repr=False)
class Tails(Result):
    """The distribution of the LCA of all parameters in all used iterations.

    Attributes:
        helped: Magnitudes of the values below 0.
        hurt: Magnitudes of the values above 0.
        n_zero: Number of values equal to 0. All other statistics describe the non-zero values only.
        beyond_by_iteration: The share of an iteration's Σ|LCA| that comes from values beyond 1, 2 and 3 standard
            deviations of that iteration, divided by the share for a Gaussian. The keys are "helped", "hurt" and "both",
            and the arrays have shape (T, 3), with NaN in excluded iterations. ``beyond`` returns the same for all
            iterations together.
        weibull: The Weibull distributions fitted to all non-zero values.
        weibull_above: The Weibull distributions fitted to the values above the rounding floor: the machine epsilon of
            the allocation times Σ|LCA| of an average iteration. Smaller values are lost when this sum is rounded.
        sample_step: The Weibull distributions are fitted to every ``sample_step``-th of the K × T values.
        cancelled: Names of the biases whose LCA counts as 0, because BatchNorm cancels it except for rounding errors.
        iterations: The iterations that were used.
    """

    helped: Magnitudes
    hurt: Magnitudes
    n_zero: int
    beyond_by_iteration: dict[str, Floats]
    weibull: Weibull
    weibull_above: Weibull
    sample_step: int
    cancelled: list[str]
    iterations: Iterations

    @property
    def both(self) -> Magnitudes:
        """Magnitudes of all non-zero values."""
        values, where = np.unique(np.append(self.helped.values, self.hurt.values), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.append(self.helped.counts, self.hurt.counts))
        return Magnitudes(values, counts)

    def central_moment(self, order: int) -> float:
        """Return the central moment of the given order of the non-zero LCA."""
        values = np.append(-self.helped.values, self.hurt.values)
        counts = np.append(self.helped.counts, self.hurt.counts)
        if not counts.sum():
            return float("nan")
        mean = values @ counts / counts.sum()
        return float((values - mean) ** order @ counts / counts.sum())

    @property
    def deviation(self) -> float:
        """The standard deviation of the non-zero LCA, in units of the loss."""
        return float(np.sqrt(self.central_moment(2)))

    @property
    def kurtosis(self) -> float:
        """The excess kurtosis of the non-zero LCA: 0 for a Gaussian, NaN if all values are equal."""
        variance = self.central_moment(2)
        return self.central_moment(4) / variance**2 - 3 if variance > 0 else float("nan")

    def beyond(self, magnitudes: Magnitudes, deviations: float) -> float:
        """Return the share of the total that values beyond k standard deviations contribute, relative to a Gaussian.

        For a Gaussian with mean 0, this share is ``E[|x|; |x| > kσ] / E|x| = exp(−k²/2)``. It is the same among only
        the values below 0 and among only the values above 0.

        Args:
            magnitudes: One of the attributes ``helped``, ``hurt`` and ``both``.
            deviations: Number of standard deviations k.
        """
        return magnitudes.share_beyond(deviations * self.deviation) / expect_beyond(deviations)

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show statistics that describe how heavy the tails are, as in figure S10 of the paper."""
        magnitudes = [result.both.values for result in results if result.both.n]
        low, high = min((x[0] for x in magnitudes), default=1e-12), max((x[-1] for x in magnitudes), default=1.0)
        edges = np.geomspace(low * 0.99, high * 1.01, N_LOG_BINS + 1)
        arrays = {
            "edges": edges,
            "helped": [result.helped.histogram(edges) for result in results],
            "hurt": [result.hurt.histogram(edges) for result in results],
            "zero": [result.n_zero for result in results],
            "beyond_by_iteration": [result.beyond_by_iteration for result in results],
        }
        tables = [
            _tabulate_parts(results, "non-zero LCA", _describe),
            _tabulate_parts(results, "values beyond", _describe_beyond, "share of Σ|LCA|, relative to a Gaussian"),
            _tabulate_shape(results),
            _tabulate_weibull(results),
        ]
        return Answer("tails", tables, [result.iterations for result in results], _list_notes(results), arrays)


class Distribution:
    """Collects the histograms of LCA and a sample for the Weibull fits, from the tiles of `lca`."""

    def __init__(self, allocation: Allocation, chosen: Iterations) -> None:
        self.chosen, self.T = chosen, len(chosen.mask)
        self.epsilon = float(np.finfo(allocation.attributes["dtype"]).eps)
        self.cancelled = [parameter.name for parameter in find_cancelled(allocation)]
        self.by_iteration = IterationTails(chosen)
        self.counts = np.zeros(N_FLOAT_BINS, np.int64)
        self.n_helped = self.n_hurt = self.n_zero = 0
        self.step = choose_sample_step(allocation.parameters.size * self.T, self.T)
        self.sample: list[NDArray[np.float32]] = []

    def add(self, tile: Tile) -> None:
        self.by_iteration.add(tile)
        values = tile.used_values
        self.counts += count_by_size(values)
        n_helped, n_hurt = (
            int(np.bitwise_count(w).sum(dtype=np.int64)) for w in (tile.negative_words, tile.positive_words)
        )
        self.n_helped += n_helped
        self.n_hurt += n_hurt
        self.n_zero += values.size - n_helped - n_hurt
        first, end = (ceil_div(row * self.T, self.step) for row in (tile.rows.start, tile.rows.stop))
        rows, columns = np.divmod(np.arange(first, end) * self.step, self.T)
        here = (columns >= tile.columns.start) & (columns < tile.columns.stop) & self.chosen.mask[columns]
        self.sample.append(tile.values[rows[here] - tile.rows.start, columns[here] - tile.columns.start])

    def result(self) -> Tails:
        helped, hurt = split_by_sign(self.counts, self.n_helped, self.n_hurt)
        sample = np.concatenate(self.sample).astype(np.float64)
        mean_total = (helped.total + hurt.total) / self.chosen.n
        return Tails(
            helped=helped,
            hurt=hurt,
            n_zero=self.n_zero,
            beyond_by_iteration=self.by_iteration.measure(DEVIATIONS),
            weibull=Weibull.fit(sample, 0.0),
            weibull_above=Weibull.fit(sample, self.epsilon * mean_total),
            sample_step=self.step,
            cancelled=self.cancelled,
            iterations=self.chosen,
        )


def choose_sample_step(n_values: int, T: int) -> int:
    """Return the step at which to sample about N_SAMPLE of the values so that every iteration is sampled equally."""
    step = max(n_values // N_SAMPLE, 1)
    while gcd(step, T) > 1:
        step += 1
    return step


@question
def tails(run: Run, *, name: str = "train") -> Tails:
    """Describe the distribution of LCA and its heavy tails.

    Source: arXiv 1909.01440, section 3, figures 3b and S10.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation. It must contain the LCA of each parameter.

    Returns:
        The distribution of the LCA of all parameters in all used iterations, in units of the loss (nats for
        cross-entropy): histograms with bins at most 0.4 % wide, and the shapes of fitted Weibull distributions.

    Raises:
        LCAError: If the run has no such allocation, or the allocation lacks the LCA of each parameter or has no usable
            iteration.

    Example:
        >>> lca.analysis.tails("run.zarr").both.share_of_top(0.01)
    """
    allocation = run.allocation(name)
    distribution = Distribution(allocation, choose_iterations(allocation))
    feed_lca(run, allocation, distribution.chosen.mask, [distribution])
    return distribution.result()


def _tabulate_parts(results: Sequence[Tails], heading: str, describe: Describe, title: str = "") -> Table:
    parts = {"helping": "helped", "hurting": "hurt", "both": "both"}
    figures = {part: [describe(result, name) for result in results] for part, name in parts.items()}
    return Table(
        heading,
        list(figures["both"][0]),
        {part: Column(np.array([list(f.values()) for f in of_runs]), 3) for part, of_runs in figures.items()},
        title,
    )


def _tabulate_shape(results: Sequence[Tails]) -> Table:
    columns = {
        "excess kurtosis (Gaussian 0)": _column([r.kurtosis for r in results], 1),
        "equal to 0 %": _column([100 * r.n_zero / (r.n_zero + r.both.n) for r in results], 2),
    }
    return Table("values", ["LCA"], columns, "shape of the distribution")


def _tabulate_weibull(results: Sequence[Tails]) -> Table:
    fits = [(result.weibull, result.weibull_above) for result in results]
    columns = {
        f"cut ({results[0].unit})": Column(
            np.array([[fit.cut for fit in of_run] for of_run in fits]), text="{:.2g}".format
        ),
        "k, helping": Column(np.array([[fit.helped for fit in of_run] for of_run in fits]), 3),
        "k, hurting": Column(np.array([[fit.hurt for fit in of_run] for of_run in fits]), 3),
    }
    return Table("values", ["all except for 0", "above the rounding floor"], columns, "Weibull shape k")


def _list_notes(results: Sequence[Tails]) -> list[str]:
    first = results[0]
    return [
        "sd: standard deviation of the non-zero LCA. Shares of single iterations are averaged over iterations.",
        f"Weibull shape k: fitted by maximum likelihood to one of every {first.sample_step:,} values, "
        f"{first.weibull.n_helped:,} below 0 and {first.weibull.n_hurt:,} above 0"
        + (" in the first run." if len(results) > 1 else "."),
        "rounding floor: the relative precision of the arithmetic times Σ|LCA| of an average iteration.",
        *describe_cancelled(first.cancelled),
    ]


def _column(values: Sequence[float], digits: int) -> Column:
    return Column(np.array(values)[:, None], digits)


def _describe(result: Tails, name: str) -> dict[str, float]:
    """Return statistics of one of the attributes "helped", "hurt" and "both", by label."""
    n, part = result.both.n, getattr(result, name)
    return {
        "fraction of values %": 100 * part.n / n if n else float("nan"),
        **{f"share of Σ|LCA| of the largest {100 * p:g} %, in %": 100 * part.share_of_top(p) for p in TOP},
        "Gini coefficient": part.gini,
    }


def _describe_beyond(result: Tails, name: str) -> dict[str, float]:
    """Return measures of the tails of one of the attributes "helped", "hurt" and "both", by label."""
    part, by_iteration = getattr(result, name), result.beyond_by_iteration[name]
    return {
        **{f"{k} sd of all iterations": result.beyond(part, k) for k in DEVIATIONS},
        **{f"{k} sd of the same iteration": _mean_of_known(by_iteration[:, i]) for i, k in enumerate(DEVIATIONS)},
    }


def _mean_of_known(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
