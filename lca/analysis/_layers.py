"""How much did each layer learn, and when?     [arXiv 1909.01440, section 4, figures 4, S11 to S14]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Column, Report, Table, p_value
from lca.analysis.iterations import Iterations, iterations
from lca.analysis.statistics import differs_from_zero
from lca.store.allocation import Allocation
from lca.store.parameters import ParameterTable
from lca.store.run import Run
from lca.store.summary import read

FRACTIONS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the iterations, after which the cumulative LCA is told

N_POINTS = 200
MAX_COLUMNS = 20  # classes that a table has room for

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layers:
    """LCA by layer, the biases and norms with their kernels, and by tensor.

    table: the parameters. by_tensor: (T, tensor), in the loss's unit, NaN in an iteration that does not count.
    classes: what the classes are called, none where they are not told apart. by_class: (class, layer), the total LCA of
    the part of the loss that each class makes up.
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
        """(tensor,)."""
        return np.asarray(np.nansum(self.by_tensor, axis=0))

    @property
    def cumulative(self) -> Floats:
        """(T, layer), from the first iteration to this one, over those that count."""
        return np.asarray(np.nancumsum(self.lca, axis=0))


def layers(run: Run, name: str = "train", unconverged: bool = False) -> Layers:
    """Sum the LCA of each tensor over the tensors of a layer."""
    allocation = run.allocation(name)
    chosen = iterations(allocation, unconverged)
    by_tensor = np.where(chosen.counted[:, None], read(allocation, "tensor_lca"), np.nan)
    classes = allocation.classes if "class_lca" in allocation.arrays else []
    return Layers(run.parameters, by_tensor, chosen, classes, _by_class(allocation, chosen, len(classes)))


def _by_class(allocation: Allocation, chosen: Iterations, n_classes: int) -> Floats:
    """(class, layer), summed block by block over the iterations that count."""
    table = allocation.run.parameters
    total = np.zeros((n_classes, len(table)))
    for span in allocation.iteration_blocks if n_classes else ():
        total += np.asarray(allocation.class_lca[span])[chosen.counted[span]].sum(axis=0)
    return table.sum_by_layer(total)


def report(results: Sequence[Layers]) -> Report:
    """The total LCA of each layer and its share of the sum, over runs of the same model     [figure 4]

    With two runs or more also the p-value of a two-sided t-test of each total against 0.
    """
    table = results[0].table
    totals = np.array([[*result.total, result.total.sum()] for result in results])
    columns = {"LCA (nats)": Column(totals, 4), "share %": Column(_share(totals, totals[:, -1:]), 1)}
    if len(results) > 1:
        columns["p (t-test against 0)"] = Column.of(differs_from_zero(totals), text=p_value)
    by_tensor = np.array([result.total_by_tensor for result in results])
    kinds = list(dict.fromkeys(parameter.kind for parameter in table))
    by_kind = np.stack([by_tensor[:, [p.kind == kind for p in table]].sum(1) for kind in kinds], axis=1)
    apart = np.concatenate([by_tensor, by_kind], axis=1)
    of_layer = np.concatenate(
        [totals[:, [table.layers.index(p.layer) for p in table]], totals[:, [-1] * len(kinds)]], 1
    )
    classes = results[0].classes if all(r.classes == results[0].classes for r in results) else []
    totals_by_class = np.array([[*r.by_class.T, r.by_class.sum(1)] for r in results]) if classes else np.zeros(0)
    of_classes = Table(
        "layer",
        [*table.layers, "sum"],
        {name: Column(totals_by_class[..., c], 4) for c, name in enumerate(classes)},
        "LCA (nats) of the part of the loss that each class makes up",
    )
    over_time = {f"{100 * part:g} %": Column(after(part, [r.cumulative for r in results]), 4) for part in FRACTIONS}
    return Report(
        "layers",
        [
            Table("layer", [*table.layers, "sum"], columns),
            Table(
                "tensor",
                [*(p.name for p in table), *(f"every {kind}" for kind in kinds)],
                {"LCA (nats)": Column(apart, 4), "share of its layer %": Column(_share(apart, of_layer), 1)},
                "kernels, biases and norms apart",
            ),
            Table(
                "layer",
                [*table.layers, "sum"],
                over_time,
                "cumulative LCA (nats), after the first part of the iterations",
            ),
            *([of_classes] if 0 < len(classes) <= MAX_COLUMNS else []),
        ],
        [result.iterations for result in results],
        arrays={"layers": table.layers, "cumulative": [_thinned(result.cumulative) for result in results]},
    )


def after(part: float, cumulative: Sequence[Floats]) -> Floats:
    """(T, layer) of each run, T may differ -> (run, layer + 1) after a part of its iterations, and the layers' sum."""
    rows = np.array([of_run[max(round(part * len(of_run)), 1) - 1] for of_run in cumulative])
    return np.append(rows, rows.sum(axis=1, keepdims=True), axis=1)


def _thinned(cumulative: Floats) -> dict[str, Floats | NDArray[np.int64]]:
    """At N_POINTS of the iterations, for programs."""
    at = np.unique(np.linspace(0, len(cumulative) - 1, N_POINTS).round().astype(int))
    return {"iteration": at, "lca": cumulative[at]}


def _share(part: Floats, of: Floats) -> Floats:
    """In percent; NaN where there is nothing to share."""
    return np.asarray(np.divide(100 * part, of, out=np.full(part.shape, np.nan), where=of != 0))
