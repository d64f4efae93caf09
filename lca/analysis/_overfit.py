"""Which parts learn what does not generalise?     [arXiv 1909.01440, section 6.2]

The same motion is allocated twice, by the gradients of the training loss and by those of the loss of a split that was
not trained on. What a layer gains on the first and not on the second it has learned by heart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis._layers import after
from lca.analysis._neurons import N_NAMED, NeuronSums
from lca.analysis.answer import Column, Report, Table, p_value, whole
from lca.analysis.iterations import Iterations, iterations
from lca.analysis.statistics import differs_in_pairs
from lca.analysis.tiles import feed
from lca.errors import LCAError, UsageError
from lca.store.run import Run
from lca.store.summary import read

FRACTIONS = (0.03, 0.1, 0.3, 1.0)  # of the iterations, after which the cumulative gap is told

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Overfit:
    """LCA on two splits, over the iterations that count in both; in the loss's unit.

    train, held_out: (T, layer), NaN where an iteration does not count. layers: their names.
    neurons: their names, and neuron_train, neuron_held_out: (neuron,), the totals; None where an allocation keeps only
    the sums over tensors. names: of the two allocations.
    """

    train: Floats
    held_out: Floats
    layers: list[str]
    neurons: list[str] | None
    neuron_train: Floats | None
    neuron_held_out: Floats | None
    names: tuple[str, str]
    iterations: Iterations

    @property
    def gap(self) -> Floats:
        """LCA on the held-out split less that on train, (T, layer): above 0 where it gained less there."""
        return self.held_out - self.train

    @property
    def cumulative_gap(self) -> Floats:
        """(T, layer), from the first iteration to this one."""
        return np.asarray(np.nancumsum(self.gap, axis=0))

    @property
    def best_iterate(self) -> NDArray[np.int64]:
        """(layer,), at which iterate the layer had lowered the held-out loss most; from there on it hurts it."""
        cumulative = np.nancumsum(np.concatenate([np.zeros((1, len(self.layers))), self.held_out]), axis=0)
        return np.asarray(np.argmin(cumulative, axis=0))


class Pair:
    """Two allocations of a run, and what sums the neurons of each as its tiles come by; sums is empty where one of them
    does not hold the LCA of each parameter."""

    def __init__(self, run: Run, name: str, against: str, unconverged: bool) -> None:
        if name == against:
            raise UsageError(f"{name} is compared with itself; give another allocation with --against.")
        self.allocations = run.allocation(name), run.allocation(against)
        first, second = (iterations(allocation, unconverged) for allocation in self.allocations)
        self.table, self.chosen = run.parameters, first & second
        if not self.chosen.n:
            raise LCAError(f"no iteration of {run.path} counts in both {name} and {against}.")
        whole = all("lca" in allocation.arrays for allocation in self.allocations)
        self.sums = [NeuronSums(self.table, self.chosen, max_cells=1) for _ in self.allocations] if whole else []

    def result(self) -> Overfit:
        counted = self.chosen.counted[:, None]
        train, held_out = (
            np.where(counted, self.table.sum_by_layer(read(allocation, "tensor_lca")), np.nan)
            for allocation in self.allocations
        )
        totals = [sums.result() for sums in self.sums]
        return Overfit(
            train=train,
            held_out=held_out,
            layers=self.table.layers,
            neurons=totals[0].units.names if totals else None,
            neuron_train=totals[0].total if totals else None,
            neuron_held_out=totals[1].total if totals else None,
            names=(self.allocations[0].name, self.allocations[1].name),
            iterations=self.chosen,
        )


def overfit(run: Run, name: str = "train", against: str = "val", unconverged: bool = False) -> Overfit:
    """Compare two allocations of a run; against: the name of the one of the split that was not trained on."""
    pair = Pair(run, name, against, unconverged)
    for allocation, sums in zip(pair.allocations, pair.sums, strict=False):
        feed(run, allocation.lca, pair.chosen.counted, [sums])
    return pair.result()


def report(results: Sequence[Overfit], runs: Sequence[str]) -> Report:
    """The gap of each layer, with a paired t-test over runs, and the neurons with the largest; runs: their names."""
    first = results[0]
    if len({result.names for result in results}) > 1:
        raise LCAError(
            "the runs are not allocated on the same two splits: give those to compare by --name and --against."
        )
    rows = [*first.layers, "sum"]

    def totals(values: Sequence[Floats]) -> Floats:
        by_layer = np.array([np.nansum(of_run, axis=0) for of_run in values])
        return np.append(by_layer, by_layer.sum(1, keepdims=True), axis=1)

    train, held_out = totals([r.train for r in results]), totals([r.held_out for r in results])
    gap = held_out - train
    columns = {
        f"{first.names[0]} (nats)": Column(train, 4),
        f"{first.names[1]} (nats)": Column(held_out, 4),
        "gap (nats)": Column(gap, 4),
        "gap %": Column(np.divide(100 * gap, -train, out=np.full(gap.shape, np.nan), where=train < 0), 1),
    }
    if len(results) > 1:
        columns["p (paired t-test)"] = Column.of(differs_in_pairs(train, held_out), text=p_value)
    cumulative = [result.cumulative_gap for result in results]
    over_time = {f"{100 * part:g} %": Column(after(part, cumulative), 4) for part in FRACTIONS}
    best = np.array([[*r.best_iterate, np.argmin(np.nancumsum(np.append(0, r.held_out.sum(1))))] for r in results])
    over_time["best iterate"] = Column(best.astype(np.float64), text=whole)
    return Report(
        "overfit",
        [
            Table("layer", rows, columns),
            Table(
                "layer",
                rows,
                over_time,
                f"cumulative gap (nats) after the first part of the iterations, and where {first.names[1]} was best",
            ),
            *(_named(result, run) for result, run in zip(results, runs, strict=True) if result.neurons),
        ],
        [result.iterations for result in results],
        ["gap %: what is gained less on the second split, of what is gained on the first; – where nothing is gained"],
    )


def _named(result: Overfit, run: str) -> Table:
    """The neurons whose gap is largest."""
    assert result.neurons is not None
    assert result.neuron_train is not None
    assert result.neuron_held_out is not None
    gap = result.neuron_held_out - result.neuron_train
    order = np.argsort(-gap, kind="stable")[:N_NAMED]
    columns = {
        f"{result.names[0]} (nats)": result.neuron_train,
        f"{result.names[1]} (nats)": result.neuron_held_out,
        "gap (nats)": gap,
    }
    return Table(
        "neuron",
        [result.neurons[i] for i in order],
        {heading: Column.of(values[order], 5) for heading, values in columns.items()},
        f"the largest gaps of {run}",
    )
