"""How heavy are the tails of the distribution of LCA?     [arXiv 1909.01440, section 3, figures 3b, S10]"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.magnitudes import N_FLOAT_BINS, Magnitudes, count_by_size, fit_weibull_shape, split_by_sign
from lca.analysis.question import Result, question
from lca.analysis.tiles import Tile, feed
from lca.store.blocks import ceil_div
from lca.store.run import Run

N_LOG_BINS = 100  # of the histogram that programs get
N_SAMPLE = 2**18  # of the K × T values, to fit the Weibull distribution: k to a relative 0.2 %
DEVIATIONS = (1, 2, 3)
TOP = (0.01, 0.1)

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Tails(Result):
    """The distribution of the LCA of all parameters in all iterations that count.

    helped, hurt: the magnitudes of the values below and above 0. n_zero: how many are 0; no other figure includes them.
    weibull_helped, weibull_hurt: the shape k of the Weibull distribution fitted to each by maximum likelihood, on every
    sample_step-th of the K × T values, of which n_helped_sampled were below and n_hurt_sampled above 0.
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
        """The central moment of this order of the non-zero LCA."""
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
        """The share contributed beyond this many standard deviations, as a multiple of a Gaussian's.

        For a Gaussian with mean 0, E[|x|; |x| > kσ] / E|x| = exp(−k²/2), and the same for each of its halves.
        """
        return magnitudes.share_beyond(deviations * self.deviation) / float(np.exp(-(deviations**2) / 2))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """How heavy the tails are, over runs     [figure S10]"""
        first = results[0]
        note = (
            f"k by maximum likelihood on one of every {first.sample_step:,} values: {first.n_helped_sampled:,} helping "
            f"and {first.n_hurt_sampled:,} hurting ones" + (" of the first run" if len(results) > 1 else "")
        )
        magnitudes = [result.both.values for result in results if result.both.n]
        low, high = min((x[0] for x in magnitudes), default=1e-12), max((x[-1] for x in magnitudes), default=1.0)
        edges = np.geomspace(low * 0.99, high * 1.01, N_LOG_BINS + 1)
        arrays = {
            "edges": edges,
            "helped": [result.helped.histogram(edges) for result in results],
            "hurt": [result.hurt.histogram(edges) for result in results],
            "zero": [result.n_zero for result in results],
        }
        tables = [_tabulate_contributions(results), _tabulate_shape(results)]
        return Answer("tails", tables, [result.iterations for result in results], [note], arrays)


class Distribution:
    """Takes the tiles of `lca`."""

    def __init__(self, n_parameters: int, chosen: Iterations) -> None:
        self.chosen, self.T = chosen, len(chosen.counted)
        self.counts = np.zeros(N_FLOAT_BINS, np.int64)
        self.n_helped = self.n_hurt = self.n_zero = 0
        self.step = choose_sample_step(n_parameters * self.T, self.T)
        self.sample: list[NDArray[np.float32]] = []

    def add(self, tile: Tile) -> None:
        values = tile.counted_values
        self.counts += count_by_size(values)
        n_helped, n_hurt = (int(np.bitwise_count(w).sum(dtype=np.int64)) for w in (tile.helped_words, tile.hurt_words))
        self.n_helped += n_helped
        self.n_hurt += n_hurt
        self.n_zero += values.size - n_helped - n_hurt
        first, end = (ceil_div(row * self.T, self.step) for row in (tile.rows.start, tile.rows.stop))
        rows, columns = np.divmod(np.arange(first, end) * self.step, self.T)
        here = (columns >= tile.columns.start) & (columns < tile.columns.stop) & self.chosen.counted[columns]
        self.sample.append(tile.values[rows[here] - tile.rows.start, columns[here] - tile.columns.start])

    def result(self) -> Tails:
        helped, hurt = split_by_sign(self.counts, self.n_helped, self.n_hurt)
        sample = np.concatenate(self.sample).astype(np.float64)
        below, above = -sample[sample < 0], sample[sample > 0]
        return Tails(
            helped=helped,
            hurt=hurt,
            n_zero=self.n_zero,
            weibull_helped=fit_weibull_shape(below),
            weibull_hurt=fit_weibull_shape(above),
            sample_step=self.step,
            n_helped_sampled=len(below),
            n_hurt_sampled=len(above),
            iterations=self.chosen,
        )


def choose_sample_step(n_values: int, T: int) -> int:
    """The step that samples about N_SAMPLE of the values, spread over all iterations."""
    step = max(n_values // N_SAMPLE, 1)
    while gcd(step, T) > 1:
        step += 1
    return step


@question
def tails(run: Run, *, name: str = "train", unconverged: bool = False) -> Tails:
    """How heavy are the tails of the distribution of LCA?     [arXiv 1909.01440, section 3, figures 3b, S10]

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about; it must hold the LCA of each parameter.
        unconverged: Whether iterations that did not converge count too.

    Returns:
        The distribution of the LCA of all parameters in all iterations that count, in the loss's unit (nats for
        cross-entropy): magnitudes in bins 0.4 % wide, and the shapes of the Weibull distributions fitted to them.

    Raises:
        LCAError: If the run has no such allocation, or no iteration of it counts.

    Example:
        >>> lca.analysis.tails("run.zarr").both.share_of_top(0.01)
    """
    allocation = run.allocation(name)
    distribution = Distribution(run.parameters.size, choose_iterations(allocation, unconverged))
    feed(run, allocation.lca, distribution.chosen.counted, [distribution])
    return distribution.result()


def _tabulate_contributions(results: Sequence[Tails]) -> Table:
    parts = {"helping": "helped", "hurting": "hurt", "both": "both"}
    figures = {part: [_describe(result, getattr(result, name)) for result in results] for part, name in parts.items()}
    return Table(
        "non-zero LCA",
        list(figures["both"][0]),
        {part: Column(np.array([list(f.values()) for f in of_runs]), 3) for part, of_runs in figures.items()},
    )


def _tabulate_shape(results: Sequence[Tails]) -> Table:
    columns = {
        "excess kurtosis (Gaussian 0)": _column([r.kurtosis for r in results], 1),
        "Weibull k, helping": _column([r.weibull_helped for r in results], 3),
        "Weibull k, hurting": _column([r.weibull_hurt for r in results], 3),
        "zero %": _column([100 * r.n_zero / (r.n_zero + r.both.n) for r in results], 2),
    }
    return Table("", ["LCA"], columns, "the whole distribution")


def _column(values: Sequence[float], digits: int) -> Column:
    return Column(np.array(values)[:, None], digits)


def _describe(result: Tails, part: Magnitudes) -> dict[str, float]:
    """The figures of the helping, the hurting or all values, by their headings."""
    n = result.both.n
    return {
        "part of the values %": 100 * part.n / n if n else float("nan"),
        **{f"contributed beyond {k} sd / by a Gaussian": result.beyond(part, k) for k in DEVIATIONS},
        **{f"contributed by the top {100 * p:g} %, in %": 100 * part.share_of_top(p) for p in TOP},
        "Gini coefficient": part.gini,
    }
