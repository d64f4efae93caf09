"""Which neurons or output channels learned, and when?     [arXiv 1909.01440, section 2.2, figure S2]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Column, Report, Table, whole
from lca.analysis.iterations import Iterations, iterations
from lca.analysis.tiles import Segments, Tile, feed
from lca.store.parameters import ParameterTable
from lca.store.run import Run
from lca.store.units import Units as Units

N_NAMED = 10  # of the most helping and of the most hurting ones
MAX_CELLS = 2**23  # of neurons by time, 64 MB: beyond, iterations are summed in bins

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Neurons:
    """LCA by neuron or output channel: its slice of the kernel, its bias and its norm.

    units: which they are. lca: (neuron, bin), in the loss's unit, over the iterations edges[bin] … edges[bin + 1] − 1:
    a bin for each iteration, or longer ones where neurons by iterations would not fit into 64 MB. In a bin what does
    not count adds nothing; NaN where nothing in it counts.
    """

    units: Units
    lca: Floats
    edges: NDArray[np.int64]
    iterations: Iterations

    @property
    def total(self) -> Floats:
        """Summed over the iterations that count, (neuron,)."""
        return np.asarray(np.nansum(self.lca, axis=1))


class NeuronSums:
    """Sums the LCA of each neuron as its tiles come by."""

    def __init__(self, table: ParameterTable, chosen: Iterations, max_cells: int = MAX_CELLS) -> None:
        self.units, self.chosen = Units.of(table), chosen
        self.segments = Segments(self.units.bounds)
        T = len(chosen.counted)
        length = -(-T * len(self.units) // max_cells)
        self.edges = np.unique(np.append(np.arange(0, T, length), T))
        self.lca = np.zeros((len(self.units), len(self.edges) - 1))

    def add(self, tile: Tile) -> None:
        which, sums = self.segments.sums(tile.rows, tile.values, np.float64)
        sums[:, ~self.chosen.counted[tile.columns]] = 0
        bins = np.searchsorted(self.edges, np.arange(tile.columns.start, tile.columns.stop), "right") - 1
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        here = self.lca[:, bins[0] : bins[-1] + 1]
        np.add.at(here, self.units.owner[which], np.add.reduceat(sums, starts, axis=1))

    def result(self) -> Neurons:
        lca = self.lca.copy()
        lca[:, np.add.reduceat(self.chosen.counted, self.edges[:-1], dtype=int) == 0] = np.nan
        return Neurons(self.units, lca, self.edges, self.chosen)


def neurons(run: Run, name: str = "train", unconverged: bool = False, max_cells: int = MAX_CELLS) -> Neurons:
    """Sum the LCA of each neuron. max_cells: of neurons by bins of time, eight bytes each."""
    allocation = run.allocation(name)
    sums = NeuronSums(run.parameters, iterations(allocation, unconverged), max_cells)
    feed(run, allocation.lca, sums.chosen.counted, [sums])
    return sums.result()


def report(results: Sequence[Neurons], names: Sequence[str]) -> Report:
    """How many neurons of each layer help over all, and which ones help and hurt most; names: those of the runs.

    The neurons of two runs that were initialised apart have nothing to do with each other, so each run names its own.
    """
    units = results[0].units
    layers = list(dict.fromkeys(units.layer))
    members = [[layer == wanted for layer in units.layer] for wanted in layers]
    totals = [result.total for result in results]

    def by_layer(figure: Callable[[Floats], float]) -> Floats:
        return np.array([[figure(total[m]) for m in members] for total in totals])

    overview = Table(
        "layer",
        layers,
        {
            "neurons": Column.of([sum(m) for m in members], text=whole),
            "helping over all %": Column(by_layer(lambda x: 100 * float(np.mean(x < 0))), 1),
            "lowest (nats)": Column(by_layer(np.min), 5),
            "highest (nats)": Column(by_layer(np.max), 5),
        },
    )
    return Report(
        "neurons",
        [overview, *(_named(result, name) for result, name in zip(results, names, strict=True))],
        [result.iterations for result in results],
        arrays={"neuron": units.names, "lca": np.array(totals)},
    )


def _named(result: Neurons, name: str) -> Table:
    """The neurons that help most, then those that hurt most."""
    total, order = result.total, np.argsort(result.total, kind="stable")
    helping, hurting = order[:N_NAMED], order[::-1][:N_NAMED]
    chosen = [*(i for i in helping if total[i] < 0), *(i for i in hurting[::-1] if total[i] > 0)]
    share = 100 * total / total.sum() if total.sum() else np.full(len(total), np.nan)
    return Table(
        "neuron",
        [result.units.names[i] for i in chosen],
        {"LCA (nats)": Column.of(total[chosen], 5), "share %": Column.of(share[chosen], 2)},
        f"the most helping and the most hurting ones of {name}",
    )
