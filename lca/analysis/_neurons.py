"""Which neurons or output channels learned, and when?     [arXiv 1909.01440, section 2.2, figure S2]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table, format_whole
from lca.analysis.bins import count_in_bins, make_edges_every
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import Segments, Tile, feed
from lca.store.blocks import ceil_div
from lca.store.run import Run
from lca.store.units import Units

N_NAMED = 10  # of the neurons that help most and of those that hurt most
MAX_CELLS = 2**23  # neurons × bins of time, 64 MB: if there are more, iterations are summed in bins

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Neurons(Result):
    """LCA by neuron or output channel: its slice of the kernel, its bias and its norm.

    run: the path of the run. units: the neurons. lca: (neuron, bin), in the loss's unit, over the iterations
    edges[bin] … edges[bin + 1] − 1: one bin for each iteration, or longer ones where neurons × iterations would not fit
    into 64 MB. In a bin, an iteration that does not count adds nothing; NaN where none in it counts.
    """

    run: str
    units: Units
    lca: Floats
    edges: NDArray[np.int64]
    iterations: Iterations

    @property
    def total(self) -> Floats:
        """Summed over the iterations that count, (neuron,)."""
        return np.asarray(np.nansum(self.lca, axis=1))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """How many neurons of each layer help in total, and which ones help and hurt most.

        The neurons of two runs that were initialised differently do not correspond, so each run has a table of its own.
        """
        return Answer(
            "neurons",
            [_tabulate_layers(results), *map(_tabulate_extremes, results)],
            [result.iterations for result in results],
            arrays={"neuron": results[0].units.names, "lca": np.array([result.total for result in results])},
        )


class NeuronSums:
    """Takes the tiles of `lca`, and sums the LCA of each neuron."""

    def __init__(self, run: Run, chosen: Iterations, max_cells: int = MAX_CELLS) -> None:
        self.run, self.units, self.chosen = str(run.path), Units.of(run.parameters), chosen
        self.segments = Segments(self.units.bounds)
        T = len(chosen.counted)
        self.edges = make_edges_every(T, ceil_div(T * len(self.units), max_cells))
        self.lca = np.zeros((len(self.units), len(self.edges) - 1))

    def add(self, tile: Tile) -> None:
        which, sums = self.segments.sum(tile.rows, tile.values, np.float64)
        sums[:, ~self.chosen.counted[tile.columns]] = 0
        bins = np.searchsorted(self.edges, np.arange(tile.columns.start, tile.columns.stop), "right") - 1
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        here = self.lca[:, bins[0] : bins[-1] + 1]
        np.add.at(here, self.units.owner[which], np.add.reduceat(sums, starts, axis=1))

    def result(self) -> Neurons:
        lca = self.lca.copy()
        lca[:, count_in_bins(self.chosen.counted, self.edges) == 0] = np.nan
        return Neurons(self.run, self.units, lca, self.edges, self.chosen)


@question(divide="max_cells")
def neurons(run: Run, *, name: str = "train", unconverged: bool = False, max_cells: int = MAX_CELLS) -> Neurons:
    """Which neurons or output channels learned, and when?     [arXiv 1909.01440, section 2.2, figure S2]

    The LCA of a neuron is the sum over its slice of the kernel, its bias and its norm.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about; it must hold the LCA of each parameter.
        unconverged: Whether iterations that did not converge count too.
        max_cells: Neurons × bins of time to keep, of eight bytes each, for all runs together; if there are more
            neurons × iterations, iterations are summed in bins.

    Returns:
        The LCA of each neuron over time, in the loss's unit (nats for cross-entropy).

    Raises:
        LCAError: If the run has no such allocation, or no iteration of it counts.

    Example:
        >>> lca.analysis.neurons("run.zarr").total
    """
    allocation = run.allocation(name)
    sums = NeuronSums(run, choose_iterations(allocation, unconverged), max_cells)
    feed(run, allocation.lca, sums.chosen.counted, [sums])
    return sums.result()


def _tabulate_layers(results: Sequence[Neurons]) -> Table:
    units = results[0].units
    layers = list(dict.fromkeys(units.layer))
    members = [[home == layer for home in units.layer] for layer in layers]
    totals = [result.total for result in results]

    def column(figure: Callable[[Floats], float], digits: int) -> Column:
        return Column(np.array([[figure(total[m]) for m in members] for total in totals]), digits)

    return Table(
        "layer",
        layers,
        {
            "neurons": Column.of([sum(m) for m in members], text=format_whole),
            "helping in total %": column(lambda x: 100 * float(np.mean(x < 0)), 1),
            "lowest (nats)": column(np.min, 5),
            "highest (nats)": column(np.max, 5),
        },
    )


def _tabulate_extremes(result: Neurons) -> Table:
    """The neurons that help most, then those that hurt most."""
    total, order = result.total, np.argsort(result.total, kind="stable")
    helping, hurting = order[:N_NAMED], order[::-1][:N_NAMED]
    chosen = [*(i for i in helping if total[i] < 0), *(i for i in hurting[::-1] if total[i] > 0)]
    share = 100 * total / total.sum() if total.sum() else np.full(len(total), np.nan)
    return Table(
        "neuron",
        [result.units.names[i] for i in chosen],
        {"LCA (nats)": Column.of(total[chosen], 5), "share %": Column.of(share[chosen], 2)},
        f"the neurons of {result.run} that help most and hurt most",
    )
