"""How much did each layer learn, and when?     [arXiv 1909.01440, section 4, figures 4, S11 to S14]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table, format_p
from lca.analysis.bins import thin
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.statistics import differs_from_zero
from lca.store.allocation import Allocation
from lca.store.parameters import ParameterTable
from lca.store.run import Run

CUMULATIVE_PARTS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the iterations, after which the cumulative LCA is tabulated
N_CUMULATIVE_POINTS = 200  # of the cumulative LCA that programs get
MAX_CLASS_COLUMNS = 20  # classes for which a table has room

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Layers(Result):
    """LCA by layer, the biases and norms with their kernels, and by tensor.

    table: the parameters. by_tensor: (T, tensor), in the loss's unit, NaN in an iteration that does not count.
    classes: the names of the classes, none if the allocation does not distinguish them. by_class: (class, layer), the
    total LCA of the part of the loss that each class makes up.
    """

    table: ParameterTable
    by_tensor: Floats
    iterations: Iterations
    classes: list[str]
    by_class: Floats

    @property
    def layers(self) -> list[str]:
        """Their names, in the order of the network."""
        return self.table.layers

    @property
    def lca(self) -> Floats:
        """(T, layer)."""
        return self.table.sum_by_layer(self.by_tensor)

    @property
    def total(self) -> Floats:
        """Summed over the iterations that count, (layer,)."""
        return np.asarray(np.nansum(self.lca, axis=0))

    @property
    def total_by_tensor(self) -> Floats:
        """Summed over the iterations that count, (tensor,)."""
        return np.asarray(np.nansum(self.by_tensor, axis=0))

    @property
    def cumulative(self) -> Floats:
        """(T, layer), from the first iteration to this one, over those that count."""
        return np.asarray(np.nancumsum(self.lca, axis=0))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The total LCA of each layer and its share of the sum, over runs of the same model     [figure 4]

        With two runs or more, also the p-value of a two-sided t-test of each total against 0.
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
def layers(run: Run, *, name: str = "train", unconverged: bool = False) -> Layers:
    """How much did each layer learn, and when?     [arXiv 1909.01440, section 4, figures 4, S11 to S14]

    The LCA of a layer is the sum over its tensors: its biases and norms belong to its kernel. Below 0 it helped.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about.
        unconverged: Whether iterations that did not converge count too.

    Returns:
        The LCA of each tensor and layer in every iteration, in the loss's unit (nats for cross-entropy); by class too
        where the allocation has it.

    Raises:
        LCAError: If the run has no such allocation, or no iteration of it counts.

    Example:
        >>> lca.analysis.layers("run.zarr").total
    """
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation, unconverged)
    by_tensor = np.where(chosen.counted[:, None], allocation.read("tensor_lca"), np.nan)
    classes = allocation.classes if "class_lca" in allocation.arrays else []
    return Layers(run.parameters, by_tensor, chosen, classes, _sum_by_class(allocation, chosen, len(classes)))


def take_after(part: float, cumulative: Sequence[Floats]) -> Floats:
    """cumulative (T, layer) of each run, T may differ -> (run, layer + 1) after a part of its iterations, the sum last.

    part: from 0 to 1, of the iterations of each run.
    """
    rows = np.array([of_run[max(round(part * len(of_run)), 1) - 1] for of_run in cumulative])
    return np.append(rows, rows.sum(axis=1, keepdims=True), axis=1)


def _sum_by_class(allocation: Allocation, chosen: Iterations, n_classes: int) -> Floats:
    """(class, layer), summed block by block over the iterations that count."""
    table = allocation.parameters
    total = np.zeros((n_classes, len(table)))
    for span in allocation.blocks_of_run if n_classes else ():
        total += np.asarray(allocation.class_lca[span])[chosen.counted[span]].sum(axis=0)
    return table.sum_by_layer(total)


def _total_with_sum(results: Sequence[Layers]) -> Floats:
    """(run, layer + 1), the sum over the layers last."""
    return np.array([[*result.total, result.total.sum()] for result in results])


def _tabulate_layers(results: Sequence[Layers]) -> Table:
    totals = _total_with_sum(results)
    columns = {"LCA (nats)": Column(totals, 4), "share %": Column(_share(totals, totals[:, -1:]), 1)}
    if len(results) > 1:
        columns["p (t-test against 0)"] = Column.of(differs_from_zero(totals), text=format_p)
    return Table("layer", [*results[0].layers, "sum"], columns)


def _tabulate_tensors(results: Sequence[Layers]) -> Table:
    """Each tensor, then all kernels, all biases and all norms."""
    table, totals = results[0].table, _total_with_sum(results)
    by_tensor = np.array([result.total_by_tensor for result in results])
    kinds = list(dict.fromkeys(parameter.kind for parameter in table))
    by_kind = np.stack([by_tensor[:, [p.kind == kind for p in table]].sum(1) for kind in kinds], axis=1)
    apart = np.concatenate([by_tensor, by_kind], axis=1)
    of_layer = np.concatenate([totals[:, table.layer_index], totals[:, [-1] * len(kinds)]], 1)
    return Table(
        "tensor",
        [*(p.name for p in table), *(f"every {kind}" for kind in kinds)],
        {"LCA (nats)": Column(apart, 4), "share of its layer %": Column(_share(apart, of_layer), 1)},
        "kernels, biases and norms apart",
    )


def _tabulate_over_time(results: Sequence[Layers]) -> Table:
    cumulative = [result.cumulative for result in results]
    return Table(
        "layer",
        [*results[0].layers, "sum"],
        {f"{100 * part:g} %": Column(take_after(part, cumulative), 4) for part in CUMULATIVE_PARTS},
        "cumulative LCA (nats), after the first part of the iterations",
    )


def _tabulate_classes(results: Sequence[Layers]) -> list[Table]:
    """A column for each class; none unless all runs have the same, and few enough."""
    classes = results[0].classes
    if any(result.classes != classes for result in results) or not 0 < len(classes) <= MAX_CLASS_COLUMNS:
        return []
    totals = np.array([[*result.by_class.T, result.by_class.sum(1)] for result in results])
    columns = {name: Column(totals[..., c], 4) for c, name in enumerate(classes)}
    title = "LCA (nats) of the part of the loss that each class makes up"
    return [Table("layer", [*results[0].layers, "sum"], columns, title)]


def _thin_cumulative(cumulative: Floats) -> dict[str, Floats | NDArray[np.int64]]:
    at = thin(len(cumulative), N_CUMULATIVE_POINTS)
    return {"iteration": at, "lca": cumulative[at]}


def _share(part: Floats, of: Floats) -> Floats:
    """In percent; NaN where there is nothing to share."""
    return np.asarray(np.divide(100 * part, of, out=np.full(part.shape, np.nan), where=of != 0))
