"""Which parts learn what does not generalise?     [arXiv 1909.01440, section 6.2]

The same motion is allocated twice: by the gradients of the training loss, and by those of the loss of a split that was
not trained on. What a layer gains on the first and not on the second, it has memorised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis._layers import take_after
from lca.analysis._neurons import N_NAMED, NeuronSums
from lca.analysis.answer import Answer, Column, Table, format_p, format_whole
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.statistics import differs_in_pairs
from lca.analysis.tiles import feed
from lca.errors import Argument, LCAError, UsageError
from lca.store.run import Run

GAP_PARTS = (0.03, 0.1, 0.3, 1.0)  # of the iterations, after which the cumulative gap is tabulated

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Overfit(Result):
    """LCA on two splits, over the iterations that count in both; in the loss's unit.

    run: the path of the run. train, held_out: (T, layer), NaN where an iteration does not count. layers: their names.
    neurons: their names, and neuron_train, neuron_held_out: (neuron,), the totals; None where an allocation keeps only
    the sums over tensors. names: of the two allocations.
    """

    run: str
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
        """LCA on the held-out split less that on train, (T, layer): above 0 where the layer gained less there."""
        return self.held_out - self.train

    @property
    def cumulative_gap(self) -> Floats:
        """(T, layer), from the first iteration to this one."""
        return np.asarray(np.nancumsum(self.gap, axis=0))

    @property
    def best_iterate(self) -> NDArray[np.int64]:
        """(layer,), the iterate at which the layer had lowered the held-out loss most; after it, it hurts."""
        cumulative = np.nancumsum(np.concatenate([np.zeros((1, len(self.layers))), self.held_out]), axis=0)
        return np.asarray(np.argmin(cumulative, axis=0))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The gap of each layer, with a paired t-test over runs, and the neurons with the largest gaps."""
        if len({result.names for result in results}) > 1:
            raise LCAError(
                "the runs were not allocated on the same two splits",
                remedy=("Pass those to compare as ", Argument("name"), " and ", Argument("against"), "."),
            )
        return Answer(
            "overfit",
            [
                _tabulate_gaps(results),
                _tabulate_over_time(results),
                *(_tabulate_neurons(result) for result in results if result.neurons),
            ],
            [result.iterations for result in results],
            [
                f"gap %: how much less is gained on {results[0].names[1]}, as a part of the gain on "
                f"{results[0].names[0]}; – where nothing is gained"
            ],
        )


class Pair:
    """Two allocations of a run, and the consumers that sum the neurons of each.

    sums: none where one of the allocations does not hold the LCA of each parameter.
    """

    def __init__(self, run: Run, name: str, against: str, unconverged: bool) -> None:
        if name == against:
            remedy = ("Pass another allocation as ", Argument("against"), ".")
            raise UsageError(f"{name} is compared with itself", remedy=remedy)
        self.run, self.allocations = run, (run.allocation(name), run.allocation(against))
        first, second = (choose_iterations(allocation, unconverged) for allocation in self.allocations)
        self.chosen = first & second
        if not self.chosen.n:
            raise LCAError(
                f"no iteration of {run.path} counts in both {name} and {against}",
                remedy="Allocate the same iterations in both.",
            )
        has_parts = all("lca" in allocation.arrays for allocation in self.allocations)
        self.sums = [NeuronSums(run, self.chosen, max_cells=1) for _ in self.allocations] if has_parts else []

    def result(self) -> Overfit:
        counted, table = self.chosen.counted[:, None], self.run.parameters
        train, held_out = (
            np.where(counted, table.sum_by_layer(allocation.read("tensor_lca")), np.nan)
            for allocation in self.allocations
        )
        totals = [sums.result() for sums in self.sums]
        return Overfit(
            run=str(self.run.path),
            train=train,
            held_out=held_out,
            layers=table.layers,
            neurons=totals[0].units.names if totals else None,
            neuron_train=totals[0].total if totals else None,
            neuron_held_out=totals[1].total if totals else None,
            names=(self.allocations[0].name, self.allocations[1].name),
            iterations=self.chosen,
        )


@question
def overfit(run: Run, *, name: str = "train", unconverged: bool = False, against: str = "val") -> Overfit:
    """Which parts learn what does not generalise?     [arXiv 1909.01440, section 6.2]

    Compares two allocations of the same motion: of the training loss, and of the loss of a held-out split.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation of the split that was trained on.
        unconverged: Whether iterations that did not converge count too.
        against: The allocation of a split that was not trained on.

    Returns:
        The LCA of each layer, and of each neuron where both allocations hold the LCA of each parameter, on the two
        splits, in the loss's unit (nats for cross-entropy).

    Raises:
        LCAError: If the run lacks one of the allocations, or no iteration counts in both.
        UsageError: If both are the same allocation.

    Example:
        >>> lca.allocate("run.zarr", problem, split="val")
        >>> lca.analysis.overfit("run.zarr").gap
    """
    pair = Pair(run, name, against, unconverged)
    for allocation, sums in zip(pair.allocations, pair.sums, strict=False):
        feed(run, allocation.lca, pair.chosen.counted, [sums])
    return pair.result()


def _total_with_sum(values: Sequence[Floats]) -> Floats:
    """(T, layer) of each run -> (run, layer + 1), the sum over the layers last."""
    by_layer = np.array([np.nansum(of_run, axis=0) for of_run in values])
    return np.append(by_layer, by_layer.sum(1, keepdims=True), axis=1)


def _tabulate_gaps(results: Sequence[Overfit]) -> Table:
    train, held_out = (
        _total_with_sum(values) for values in ([r.train for r in results], [r.held_out for r in results])
    )
    gap, (first, second) = held_out - train, results[0].names
    columns = {
        f"{first} (nats)": Column(train, 4),
        f"{second} (nats)": Column(held_out, 4),
        "gap (nats)": Column(gap, 4),
        "gap %": Column(np.divide(100 * gap, -train, out=np.full(gap.shape, np.nan), where=train < 0), 1),
    }
    if len(results) > 1:
        columns["p (paired t-test)"] = Column.of(differs_in_pairs(train, held_out), text=format_p)
    return Table("layer", [*results[0].layers, "sum"], columns)


def _tabulate_over_time(results: Sequence[Overfit]) -> Table:
    cumulative = [result.cumulative_gap for result in results]
    columns = {f"{100 * part:g} %": Column(take_after(part, cumulative), 4) for part in GAP_PARTS}
    best = np.array([[*r.best_iterate, np.argmin(np.nancumsum(np.append(0, r.held_out.sum(1))))] for r in results])
    columns["best iterate"] = Column(best.astype(np.float64), text=format_whole)
    title = f"cumulative gap (nats) after the first part of the iterations, and where {results[0].names[1]} was best"
    return Table("layer", [*results[0].layers, "sum"], columns, title)


def _tabulate_neurons(result: Overfit) -> Table:
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
        f"the largest gaps of {result.run}",
    )
