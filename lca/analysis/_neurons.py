"""Which neurons or output channels learned, and when?     [arXiv 1909.01440, section 2.2, figure S2]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table, format_whole
from lca.analysis.bins import count_in_bins, make_edges_every
from lca.analysis.cancellation import describe_cancelled, feed_lca, find_cancelled
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.statistics import share
from lca.analysis.tiles import Segments, Tile
from lca.store.allocation import Allocation
from lca.store.blocks import ceil_div
from lca.store.run import Run
from lca.store.units import Units

N_NAMED = 10  # number of neurons listed at each end: those that help most and those that hurt most
MAX_CELLS = 2**23  # number of neurons × iterations (64 MB) above which iterations are summed in bins

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Neurons(Result):
    """LCA by neuron or output channel, summed over its slice of the kernel, its bias and its part of the norm.

    Attributes:
        run: Path of the run.
        units: The neurons, with their names in ``units.names``.
        lca: LCA of each neuron summed over each bin of iterations, in units of the loss, shape (neurons, bins). NaN if
            all iterations of the bin are excluded.
        edges: First iteration of each bin, followed by the number of iterations, shape (bins + 1,). A bin is a single
            iteration unless neurons × iterations exceeds ``max_cells``.
        cancelled: Names of the biases whose LCA counts as 0, because BatchNorm cancels it except for rounding errors.
        iterations: The iterations that were used.
    """

    run: str
    units: Units
    lca: Floats
    edges: NDArray[np.int64]
    cancelled: list[str]
    iterations: Iterations

    @property
    def total(self) -> Floats:
        """Total LCA of each neuron, shape (neurons,)."""
        return np.asarray(np.nansum(self.lca, axis=1))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the percentage of neurons of each layer that help, and the neurons that help and hurt most.

        Neurons of runs with different initializations do not correspond to each other, so each run has its own table of
        neurons.
        """
        return Answer(
            "neurons",
            [_tabulate_layers(results), *map(_tabulate_extremes, results)],
            [result.iterations for result in results],
            ["helping neurons %: neurons whose total LCA is below 0.", *describe_cancelled(results[0].cancelled)],
            arrays={"neuron": results[0].units.names, "lca": np.array([result.total for result in results])},
        )


class NeuronSums:
    """Sums the LCA of each neuron, from the tiles of `lca`."""

    def __init__(self, run: Run, allocation: Allocation, chosen: Iterations, max_cells: int = MAX_CELLS) -> None:
        self.run, self.units, self.chosen = str(run.path), Units.of(run.parameters), chosen
        self.segments = Segments(self.units.bounds)
        self.cancelled = [parameter.name for parameter in find_cancelled(allocation)]
        T = len(chosen.mask)
        self.edges = make_edges_every(T, ceil_div(T * len(self.units), max_cells))
        self.lca = np.zeros((len(self.units), len(self.edges) - 1))

    def add(self, tile: Tile) -> None:
        which, sums = self.segments.sum(tile.rows, tile.values, np.float64)
        sums[:, ~self.chosen.mask[tile.columns]] = 0
        bins = np.searchsorted(self.edges, np.arange(tile.columns.start, tile.columns.stop), "right") - 1
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        here = self.lca[:, bins[0] : bins[-1] + 1]
        np.add.at(here, self.units.owner[which], np.add.reduceat(sums, starts, axis=1))

    def result(self) -> Neurons:
        lca = self.lca.copy()
        lca[:, count_in_bins(self.chosen.mask, self.edges) == 0] = np.nan
        return Neurons(self.run, self.units, lca, self.edges, self.cancelled, self.chosen)


@question(divide="max_cells")
def neurons(run: Run, *, name: str = "train", max_cells: int = MAX_CELLS) -> Neurons:
    """Sum LCA over the parameters of each neuron or output channel.

    Source: arXiv 1909.01440, section 2.2, figure S2.

    The LCA of a neuron is the sum over its slice of the kernel, its bias and its part of the norm.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation. It must contain the LCA of each parameter.
        max_cells: Largest number of values (8 bytes each) to keep for all runs together. If neurons × iterations
            exceeds this number, successive iterations are summed in bins.

    Returns:
        The LCA of each neuron over time, in units of the loss (nats for cross-entropy).

    Raises:
        LCAError: If the run has no such allocation, or the allocation lacks the LCA of each parameter or has no usable
            iteration.

    Example:
        >>> lca.analysis.neurons("run.zarr").total
    """
    allocation = run.allocation(name)
    sums = NeuronSums(run, allocation, choose_iterations(allocation), max_cells)
    feed_lca(run, allocation, sums.chosen.mask, [sums])
    return sums.result()


def _tabulate_layers(results: Sequence[Neurons]) -> Table:
    units = results[0].units
    layers = list(dict.fromkeys(units.layer))
    members = [[home == layer for home in units.layer] for layer in layers]
    totals = [result.total for result in results]

    def column(figure: Callable[[Floats], float], digits: int | None = None, signed: bool = False) -> Column:
        return Column(np.array([[figure(total[m]) for m in members] for total in totals]), digits, signed=signed)

    return Table(
        "layer",
        layers,
        {
            "neurons": Column.of([sum(m) for m in members], text=format_whole),
            "helping neurons %": column(lambda x: 100 * float(np.mean(x < 0)), 1),
            f"lowest LCA ({results[0].unit})": column(np.min, signed=True),
            f"highest LCA ({results[0].unit})": column(np.max, signed=True),
        },
    )


def _tabulate_extremes(result: Neurons) -> Table:
    """Tabulate the neurons that help most, followed by the neurons that hurt most."""
    total, order = result.total, np.argsort(result.total, kind="stable")
    helping, hurting = order[:N_NAMED], order[::-1][:N_NAMED]
    chosen = [*(i for i in helping if total[i] < 0), *(i for i in hurting[::-1] if total[i] > 0)]
    return Table(
        "neuron",
        [result.units.names[i] for i in chosen],
        {
            f"LCA ({result.unit})": Column.of(total[chosen], signed=True),
            "share of sum %": Column.of(share(total, total.sum())[chosen], 2),
        },
        f"neurons of {result.run} that help and hurt most",
    )
