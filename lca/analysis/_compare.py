"""Do two ways to train differ, by layer and in the end?     [arXiv 1909.01440, section 4, figures 4, S13]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis._layers import layers
from lca.analysis.answer import Answer, Column, Table, format_p
from lca.analysis.iterations import Iterations
from lca.analysis.question import Result, RunLike, open_runs
from lca.analysis.statistics import differs_between
from lca.store.run import Run
from lca.store.schema import SPLITS

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Two groups of runs of the same model.

    rows: what is compared: the layers and their sum, then the final losses of the splits on which all runs are
    allocated. first, second: (run, row), in the loss's unit. p: (row,), of two-sided t-tests with unequal variances
    (Welch's), NaN where a group has a single run, or neither any spread. iterations: of each run.
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

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Both groups side by side, with the difference of their means; a table for each comparison."""

        def table(result: Self) -> Table:
            columns = {
                f"A, n = {len(result.first)} (nats)": Column(result.first, 4),
                f"B, n = {len(result.second)} (nats)": Column(result.second, 4),
                "B − A (nats)": Column.of(result.difference, 4),
                "p (Welch)": Column.of(result.p, text=format_p),
            }
            return Table("layer", result.rows, columns)

        smallest = min(min(len(result.first), len(result.second)) for result in results)
        notes = [] if smallest > 1 else ["no test, which needs at least two runs in each group"]
        iterations = [of_run for result in results for of_run in result.iterations]
        return Answer("compare", [table(result) for result in results], iterations, notes)


def compare(
    first: RunLike | Sequence[RunLike],
    second: RunLike | Sequence[RunLike],
    *,
    name: str = "train",
    unconverged: bool = False,
) -> Comparison:
    """Do two ways to train differ, by layer and in the end?     [arXiv 1909.01440, section 4, figures 4, S13]

    Compares the total LCA of each layer and the losses at the last iterate.

    Args:
        first: The runs of one group: a path, a URL, an lca.Run, or a sequence of them.
        second: Those of the other group, of the same model.
        name: The allocation to ask about.
        unconverged: Whether iterations that did not converge count too.

    Returns:
        Both groups by row, in the loss's unit (nats for cross-entropy), with the p-values of Welch's t-tests.

    Raises:
        LCAError: If the runs are not of the same model, a run has no such allocation, or no iteration of it counts.

    Example:
        >>> lca.analysis.compare(["regular-0.zarr", "regular-1.zarr"], ["frozen-0.zarr", "frozen-1.zarr"])
    """
    n_first = len(open_runs(first))
    runs = open_runs([*open_runs(first), *open_runs(second)])
    results = [layers(run, name=name, unconverged=unconverged) for run in runs]
    splits = [split for split in SPLITS if all(_has_final_loss(run, split) for run in runs)]
    losses = [[float(run.allocation(split).read("loss")[-1]) for split in splits] for run in runs]
    values = np.array([[*r.total, r.total.sum(), *loss] for r, loss in zip(results, losses, strict=True)])
    a, b = values[:n_first], values[n_first:]
    rows = [*results[0].layers, "sum", *(f"final loss, {split}" for split in splits)]
    return Comparison(rows, len(results[0].layers), a, b, differs_between(a, b), [r.iterations for r in results])


def _has_final_loss(run: Run, split: str) -> bool:
    """Whether the run has the loss of the last iterate over all examples of a split, in the allocation of its name."""
    if split not in run.allocations:
        return False
    allocation = run.allocation(split)
    examples, of_all = (allocation.attributes[name] for name in ("examples", "examples_in_split"))
    return bool(examples == of_all and np.isfinite(allocation.read("loss")[-1]))
