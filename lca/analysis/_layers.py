"""How much did each layer learn, and when?     [arXiv 1909.01440, section 4, figures 4, S11 to S14]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table, list_p_values
from lca.analysis.bins import thin
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.statistics import differs_from_zero, share
from lca.store.allocation import Allocation
from lca.store.parameters import ParameterTable
from lca.store.run import Run

CUMULATIVE_PARTS = (0.01, 0.03, 0.1, 0.3, 1.0)  # fractions of the iterations after which cumulative LCA is shown
N_CUMULATIVE_POINTS = 200  # largest number of iterations whose cumulative LCA is written to JSON
ALL_OF_KIND = {"kernel": "all kernels", "bias": "all biases", "norm": "all norms"}
MAX_CLASS_COLUMNS = 20  # largest number of classes for which LCA by class is tabulated

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Layers(Result):
    """LCA by layer and by tensor, in units of the loss. A layer consists of a kernel with its bias and norm.

    Attributes:
        table: The parameter table of the run.
        by_tensor: LCA of each tensor in each iteration, shape (T, tensors). NaN in excluded iterations.
        iterations: The iterations that were used.
        classes: Names of the classes. Empty if the allocation has no LCA by class.
        by_class: Total LCA of each layer for each class's contribution to the loss, shape (classes, layers).
    """

    table: ParameterTable
    by_tensor: Floats
    iterations: Iterations
    classes: list[str]
    by_class: Floats

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of the network."""
        return self.table.layers

    @property
    def lca(self) -> Floats:
        """LCA of each layer in each iteration, shape (T, layers)."""
        return self.table.sum_by_layer(self.by_tensor)

    @property
    def total(self) -> Floats:
        """Total LCA of each layer, shape (layers,)."""
        return np.asarray(np.nansum(self.lca, axis=0))

    @property
    def total_by_tensor(self) -> Floats:
        """Total LCA of each tensor, shape (tensors,)."""
        return np.asarray(np.nansum(self.by_tensor, axis=0))

    @property
    def cumulative(self) -> Floats:
        """Cumulative LCA of each layer, from the first iteration through each iteration, shape (T, layers)."""
        return np.asarray(np.nancumsum(self.lca, axis=0))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the LCA of each layer: total, by tensor, over time and by class, as in figure 4 of the paper.

        For several runs, this includes the p-values of two-sided t-tests of whether the mean total is 0.
        """
        return Answer(
            "layers",
            [
                _tabulate_layers(results),
                _tabulate_tensors(results),
                _tabulate_over_time(results),
                *_tabulate_classes(results),
            ],
            [result.iterations for result in results],
            arrays={
                "layers": results[0].layers,
                "cumulative": [_thin_cumulative(result.cumulative) for result in results],
            },
        )


@question
def layers(run: Run, *, name: str = "train") -> Layers:
    """Sum LCA over the parameters of each layer, in every iteration.

    The LCA of a layer is the sum over its kernel, bias and norm. A layer whose LCA is below 0 helped, and a layer
    whose LCA is above 0 hurt.

    Source: arXiv 1909.01440, section 4, figures 4 and S11 to S14.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation.

    Returns:
        The LCA of each layer and tensor in every iteration, in units of the loss (nats for cross-entropy). If the
        allocation has LCA by class, the result includes it.

    Raises:
        LCAError: If the run has no such allocation, or the allocation has no usable iteration.

    Example:
        >>> lca.analysis.layers("run.zarr").total
    """
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation)
    by_tensor = np.where(chosen.mask[:, None], allocation.read("tensor_lca"), np.nan)
    classes = allocation.classes if "class_lca" in allocation.arrays else []
    return Layers(run.parameters, by_tensor, chosen, classes, _sum_by_class(allocation, chosen, len(classes)))


def take_after(part: float, cumulative: Sequence[Floats]) -> Floats:
    """Return the cumulative LCA of each layer, and its sum over layers, after a fraction `part` of the iterations.

    `cumulative` contains one array of shape (T, layers) per run, where T may differ. Returns shape (runs, layers + 1).
    """
    rows = np.array([of_run[max(round(part * len(of_run)), 1) - 1] for of_run in cumulative])
    return np.append(rows, rows.sum(axis=1, keepdims=True), axis=1)


def _sum_by_class(allocation: Allocation, chosen: Iterations, n_classes: int) -> Floats:
    """Sum LCA by class and layer over the used iterations, one block at a time. Returns shape (classes, layers)."""
    table = allocation.parameters
    total = np.zeros((n_classes, len(table)))
    for span in allocation.blocks_of_run if n_classes else ():
        total += allocation.read_part("class_lca", span)[chosen.mask[span]].sum(axis=0)
    return table.sum_by_layer(total)


def _total_with_sum(results: Sequence[Layers]) -> Floats:
    """Return the total LCA of each layer followed by the sum over layers, shape (runs, layers + 1)."""
    return np.array([[*result.total, result.total.sum()] for result in results])


def _tabulate_layers(results: Sequence[Layers]) -> Table:
    totals = _total_with_sum(results)
    columns = {
        f"LCA ({results[0].unit})": Column(totals, signed=True),
        "share of sum %": Column(share(totals, totals[:, -1:]), 1),
    }
    if len(results) > 1:
        columns |= list_p_values("t-test against 0", differs_from_zero(totals))
    return Table("layer", [*results[0].layers, "sum"], columns)


def _tabulate_tensors(results: Sequence[Layers]) -> Table:
    """Tabulate each tensor, followed by the sums over all kernels, all biases and all norms."""
    table, totals = results[0].table, _total_with_sum(results)
    by_tensor = np.array([result.total_by_tensor for result in results])
    kinds = list(dict.fromkeys(parameter.kind for parameter in table))
    by_kind = np.stack([by_tensor[:, [p.kind == kind for p in table]].sum(1) for kind in kinds], axis=1)
    values = np.concatenate([by_tensor, by_kind], axis=1)
    of_layer = np.concatenate([totals[:, table.layer_index], totals[:, [-1] * len(kinds)]], 1)
    return Table(
        "tensor",
        [*(p.name for p in table), *(ALL_OF_KIND[kind] for kind in kinds)],
        {
            f"LCA ({results[0].unit})": Column(values, signed=True),
            "share of layer %": Column(share(values, of_layer), 1),
        },
        "by tensor: kernels, biases and norms separately",
    )


def _tabulate_over_time(results: Sequence[Layers]) -> Table:
    cumulative = [result.cumulative for result in results]
    return Table(
        "layer",
        [*results[0].layers, "sum"],
        {f"{100 * part:g} %": Column(take_after(part, cumulative), signed=True) for part in CUMULATIVE_PARTS},
        f"cumulative LCA ({results[0].unit}) after the given fraction of iterations",
    )


def _tabulate_classes(results: Sequence[Layers]) -> list[Table]:
    """Tabulate LCA by class, unless the runs have different classes, too many classes or none."""
    classes = results[0].classes
    if any(result.classes != classes for result in results) or not 0 < len(classes) <= MAX_CLASS_COLUMNS:
        return []
    totals = np.array([[*result.by_class.T, result.by_class.sum(1)] for result in results])
    columns = {name: Column(totals[..., c], signed=True) for c, name in enumerate(classes)}
    title = f"LCA ({results[0].unit}) by class: the change in each class's contribution to the loss"
    return [Table("layer", [*results[0].layers, "sum"], columns, title)]


def _thin_cumulative(cumulative: Floats) -> dict[str, Floats | NDArray[np.int64]]:
    at = thin(len(cumulative), N_CUMULATIVE_POINTS)
    return {"iteration": at, "lca": cumulative[at]}
