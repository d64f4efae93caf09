"""How much did each layer learn?     [arXiv 1909.01440, section 4 and figure 4]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis.report import Column, Report
from lca.store import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layers:
    """LCA by layer, the biases and norms with their kernels.

    layers: their names, in the order of the network. lca: (T, layer), in the loss's unit, NaN where an iteration is not
    allocated or not finite.
    """

    layers: list[str]
    lca: Floats

    @property
    def total(self) -> Floats:
        """Summed over the iterations that are there, (layer,)."""
        return np.asarray(np.nansum(self.lca, axis=0))

    @property
    def n_left_out(self) -> int:
        """Iterations that are not allocated or not finite."""
        return int(np.isnan(self.lca).any(axis=1).sum())


def layers(run: Run, allocation: str = "train") -> Layers:
    """Sum the LCA of each tensor over the tensors of a layer."""
    names, table = run.parameters.layers, run.parameters
    by_tensor = np.asarray(run.allocation(allocation).layer_lca[:])
    by_layer = np.zeros((len(by_tensor), len(names)))
    for column, parameter in zip(by_tensor.T, table, strict=True):
        by_layer[:, names.index(parameter.layer)] += column
    return Layers(names, by_layer)


def report(runs: Sequence[Run], allocation: str = "train") -> Report:
    """The total LCA of each layer and its share of the sum, over runs of the same model     [figure 4]"""
    results = [layers(run, allocation) for run in runs]
    totals = np.array([[*result.total, result.total.sum()] for result in results])
    return Report(
        heading="layer",
        rows=[*results[0].layers, "sum"],
        columns={"LCA (nats)": Column(totals, digits=4), "share %": Column(100 * totals / totals[:, -1:], digits=1)},
        n_iterations=len(results[0].lca),
        n_left_out=sum(result.n_left_out for result in results),
    )
