"""Do two ways to train differ, by layer and in the end?     [arXiv 1909.01440, section 4, figures 4, S13]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis._layers import layers
from lca.analysis.answer import Column, Report, Table, p_value
from lca.analysis.iterations import Iterations
from lca.analysis.statistics import differs_between
from lca.store.run import Run
from lca.store.summary import read

SPLITS = ("train", "val", "test")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Two groups of runs of the same model.

    rows: what is compared: layers and their sum, then the final losses of the splits that all runs are allocated on.
    first, second: (run, row), in the loss's unit. p: (row,), of two-sided t-tests with unequal variances (Welch's),
    NaN where a group has a single run, or neither any spread.
    """

    rows: list[str]
    n_layers: int
    first: Floats
    second: Floats
    p: Floats
    iterations: list[Iterations]

    @property
    def difference(self) -> Floats:
        """(row,), of the means: the second group's less the first's."""
        return np.asarray(self.second.mean(axis=0) - self.first.mean(axis=0))


def compare(first: Sequence[Run], second: Sequence[Run], name: str = "train", unconverged: bool = False) -> Comparison:
    """Compare the total LCA of each layer, and the losses at the last iterate."""
    runs = [*first, *second]
    results = [layers(run, name, unconverged) for run in runs]
    splits = [split for split in SPLITS if all(_has_final_loss(run, split) for run in runs)]
    losses = [[float(read(run.allocation(split), "loss")[-1]) for split in splits] for run in runs]
    values = np.array([[*r.total, r.total.sum(), *loss] for r, loss in zip(results, losses, strict=True)])
    a, b = values[: len(first)], values[len(first) :]
    rows = [*results[0].layers, "sum", *(f"final loss, {split}" for split in splits)]
    return Comparison(rows, len(results[0].layers), a, b, differs_between(a, b), [r.iterations for r in results])


def report(result: Comparison) -> Report:
    """Both groups side by side, with the difference of their means."""
    n_first, n_second = len(result.first), len(result.second)
    notes = [] if min(n_first, n_second) > 1 else ["no test: it takes two runs or more in each group"]
    columns = {
        f"A, n = {n_first} (nats)": Column(result.first, 4),
        f"B, n = {n_second} (nats)": Column(result.second, 4),
        "B − A (nats)": Column.of(result.difference, 4),
        "p (Welch)": Column.of(result.p, text=p_value),
    }
    return Report("compare", [Table("layer", result.rows, columns)], result.iterations, notes)


def _has_final_loss(run: Run, split: str) -> bool:
    """Whether the run has the loss of the last iterate over all examples of a split, in the allocation of its name."""
    if split not in run.allocations:
        return False
    allocation = run.allocation(split)
    examples, of_all = (allocation.attributes[name] for name in ("examples", "examples_in_split"))
    return bool(examples == of_all and np.isfinite(read(allocation, "loss")[-1]))
