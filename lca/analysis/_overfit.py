"""Which layers and neurons overfit?     [arXiv 1909.01440, section 6.2]

The same weight updates are allocated twice: for the training loss and for the loss on a held-out split. A layer that
lowers the training loss more than the held-out loss has learned something that does not generalize.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis._layers import take_after
from lca.analysis._neurons import N_NAMED, NeuronSums
from lca.analysis.answer import Answer, Column, Table, format_whole, list_p_values
from lca.analysis.cancellation import feed_lca
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.statistics import differs_in_pairs
from lca.errors import Argument, LCAError, UsageError
from lca.store.run import Run

GAP_PARTS = (0.03, 0.1, 0.3, 1.0)  # fractions of the iterations after which the cumulative gap is shown

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Overfit(Result):
    """LCA on the training split and on a held-out split, in units of the loss.

    Attributes:
        run: Path of the run.
        train: LCA of each layer on the training split, shape (T, layers). NaN in excluded iterations.
        held_out: LCA of each layer on the held-out split, shape (T, layers). NaN in excluded iterations.
        layers: Names of the layers.
        neurons: Names of the neurons. None if one of the allocations contains only sums over tensors.
        neuron_train: Total LCA of each neuron on the training split, shape (neurons,), or None.
        neuron_held_out: Total LCA of each neuron on the held-out split, shape (neurons,), or None.
        names: Names of the allocations of the training split and of the held-out split.
        iterations: The iterations that are used in both allocations.
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
        """LCA on the held-out split minus LCA on the training split, shape (T, layers).

        The gap is above 0 if the layer lowered the held-out loss less than the training loss.
        """
        return self.held_out - self.train

    @property
    def cumulative_gap(self) -> Floats:
        """The cumulative gap of each layer, from the first iteration through each iteration, shape (T, layers)."""
        return np.asarray(np.nancumsum(self.gap, axis=0))

    @property
    def best_iterate(self) -> NDArray[np.int64]:
        """The iterate at which the cumulative LCA of each layer on the held-out split is lowest, shape (layers,)."""
        cumulative = np.nancumsum(np.concatenate([np.zeros((1, len(self.layers))), self.held_out]), axis=0)
        return np.asarray(np.argmin(cumulative, axis=0))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the gap of each layer, with a paired t-test over runs, and the neurons with the largest gaps."""
        if len({result.names for result in results}) > 1:
            raise LCAError(
                "the runs were not allocated on the same two splits",
                remedy=(
                    "For ",
                    Argument("name"),
                    " and ",
                    Argument("against"),
                    ", pass the names of two allocations that every run has.",
                ),
            )
        train, held_out = results[0].names
        return Answer(
            "overfit",
            [
                _tabulate_gaps(results),
                _tabulate_over_time(results),
                *(_tabulate_neurons(result) for result in results if result.neurons),
            ],
            [result.iterations for result in results],
            [
                f"gap: LCA on {held_out} minus LCA on {train}. A gap above 0 means that the layer lowered the "
                f"{held_out} loss less than the {train} loss.",
                f"gap %: the gap in % of the decrease of the {train} loss, or – if the layer did not lower it.",
                f"best iterate: the iterate at which the cumulative LCA on {held_out} is lowest.",
            ],
        )


class Pair:
    """Two allocations of a run, and the consumers that sum the LCA of each neuron in each allocation.

    `sums` is empty if one of the allocations lacks the LCA of each parameter.
    """

    def __init__(self, run: Run, name: str, against: str) -> None:
        if name == against:
            remedy = ("Pass another allocation as ", Argument("against"), ".")
            raise UsageError(f"the allocation {name!r} is compared with itself", remedy=remedy)
        self.run, self.allocations = run, (run.allocation(name), run.allocation(against))
        first, second = (choose_iterations(allocation) for allocation in self.allocations)
        self.chosen = first & second
        if not self.chosen.n:
            raise LCAError(
                f"{run.path} has no iteration that is usable in both {name!r} and {against!r}",
                remedy="Allocate the same iterations in both.",
            )
        has_parts = all("lca" in allocation.arrays for allocation in self.allocations)
        self.sums = [NeuronSums(run, each, self.chosen, max_cells=1) for each in self.allocations] if has_parts else []

    def result(self) -> Overfit:
        mask, table = self.chosen.mask[:, None], self.run.parameters
        train, held_out = (
            np.where(mask, table.sum_by_layer(allocation.read("tensor_lca")), np.nan) for allocation in self.allocations
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
def overfit(run: Run, *, name: str = "train", against: str = "val") -> Overfit:
    """Compare LCA on the training split with LCA on a held-out split.

    Source: arXiv 1909.01440, section 6.2.

    Both allocations describe the same weight updates, one for the training loss and one for the held-out loss.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation of the training split.
        against: Name of the allocation of a held-out split.

    Returns:
        The LCA of each layer on both splits, in units of the loss (nats for cross-entropy). If both allocations contain
        the LCA of each parameter, the result includes the total LCA of each neuron.

    Raises:
        LCAError: If the run lacks one of the allocations, or no iteration is usable in both.
        UsageError: If both names are the same.

    Example:
        >>> lca.allocate("run.zarr", problem, split="val")
        >>> lca.analysis.overfit("run.zarr").gap
    """
    pair = Pair(run, name, against)
    for allocation, sums in zip(pair.allocations, pair.sums, strict=False):
        feed_lca(run, allocation, pair.chosen.mask, [sums])
    return pair.result()


def _total_with_sum(values: Sequence[Floats]) -> Floats:
    """Sum arrays of shape (T, layers) over time and append the sum over layers. Returns shape (runs, layers + 1)."""
    by_layer = np.array([np.nansum(of_run, axis=0) for of_run in values])
    return np.append(by_layer, by_layer.sum(1, keepdims=True), axis=1)


def _tabulate_gaps(results: Sequence[Overfit]) -> Table:
    train, held_out = (
        _total_with_sum(values) for values in ([r.train for r in results], [r.held_out for r in results])
    )
    gap, (first, second), unit = held_out - train, results[0].names, results[0].unit
    columns = {
        f"LCA on {first} ({unit})": Column(train, signed=True),
        f"LCA on {second} ({unit})": Column(held_out, signed=True),
        f"gap ({unit})": Column(gap),
        "gap %": Column(np.divide(100 * gap, -train, out=np.full(gap.shape, np.nan), where=train < 0), 1),
    }
    if len(results) > 1:
        columns |= list_p_values("paired t-test", differs_in_pairs(train, held_out))
    return Table("layer", [*results[0].layers, "sum"], columns)


def _tabulate_over_time(results: Sequence[Overfit]) -> Table:
    cumulative = [result.cumulative_gap for result in results]
    columns = {f"{100 * part:g} %": Column(take_after(part, cumulative)) for part in GAP_PARTS}
    best = np.array([[*r.best_iterate, np.argmin(np.nancumsum(np.append(0, r.held_out.sum(1))))] for r in results])
    columns["best iterate"] = Column(best.astype(np.float64), text=format_whole)
    title = f"cumulative gap ({results[0].unit}) after the given fraction of iterations"
    return Table("layer", [*results[0].layers, "sum"], columns, title)


def _tabulate_neurons(result: Overfit) -> Table:
    """Tabulate the neurons with the largest gaps."""
    assert result.neurons is not None
    assert result.neuron_train is not None
    assert result.neuron_held_out is not None
    gap = result.neuron_held_out - result.neuron_train
    order = np.argsort(-gap, kind="stable")[:N_NAMED]
    columns = {
        f"LCA on {result.names[0]} ({result.unit})": result.neuron_train,
        f"LCA on {result.names[1]} ({result.unit})": result.neuron_held_out,
        f"gap ({result.unit})": gap,
    }
    return Table(
        "neuron",
        [result.neurons[i] for i in order],
        {heading: Column.of(values[order], 5, signed=values is not gap) for heading, values in columns.items()},
        f"neurons of {result.run} with the largest gaps",
    )
