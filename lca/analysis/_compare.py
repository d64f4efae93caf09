"""How do two groups of runs differ in the LCA of their layers?     [arXiv 1909.01440, section 4, figures 4, S13]

Runs with the same seed start from the same weights and draw the same mini-batches, so they vary together. If both
groups have the same seeds, their runs are compared in pairs, which removes this common variation from the test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis._layers import layers
from lca.analysis.answer import SIGN_NOTE, Answer, Column, Table, list_p_values
from lca.analysis.iterations import Iterations
from lca.analysis.question import Result, RunLike, open_runs
from lca.analysis.seeds import find_blocks
from lca.analysis.statistics import differs_between, differs_in_pairs
from lca.store.run import Run
from lca.store.schema import SPLITS

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """A comparison of two groups of runs of the same model.

    In ``to_frame()``, the index level "run" numbers the runs of each group from 0. If one group has fewer runs, its
    remaining values are NaN.

    Attributes:
        rows: Labels of the compared quantities: the LCA of each layer, the sum over layers, and the final loss on each
            split on which all runs are allocated.
        n_layers: Number of layers.
        first: Values of the first group, shape (runs, rows), in units of the loss.
        second: Values of the second group, shape (runs, rows).
        seeds: The seeds by which the runs are paired, ascending. None if the groups do not have the same seeds.
        p: p-values, shape (rows,), of two-sided paired t-tests if the runs are paired, otherwise of two-sided Welch
            t-tests. NaN if a group has a single run or the values do not vary.
        iterations: The iterations that were used, for each run.
    """

    rows: list[str]
    n_layers: int
    first: Floats
    second: Floats
    seeds: list[int] | None
    p: Floats
    iterations: list[Iterations]

    @property
    def difference(self) -> Floats:
        """The mean of the second group minus the mean of the first group, shape (rows,)."""
        return np.asarray(self.second.mean(axis=0) - self.first.mean(axis=0))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show both groups side by side with the difference of their means, in one table per comparison."""

        def table(result: Self) -> Table:
            columns = {
                f"A, n = {len(result.first)} ({result.unit})": Column(result.first),
                f"B, n = {len(result.second)} ({result.unit})": Column(result.second),
                f"B − A ({result.unit})": Column.of(result.difference),
                **list_p_values("Welch's t-test" if result.seeds is None else "paired by seed", result.p),
            }
            return Table("layer", result.rows, columns)

        paired = [result.seeds for result in results if result.seeds]
        smallest = min(min(len(result.first), len(result.second)) for result in results)
        notes = ["A: first group of runs. B: second group.", SIGN_NOTE]
        if paired:
            seeds = ", ".join(map(str, paired[0]))
            notes.append(f"paired by seed: paired t-test of the differences between runs with the same seed ({seeds}).")
        if smallest < 2:
            notes.append("No p-values: the test needs at least two runs in each group.")
        iterations = [of_run for result in results for of_run in result.iterations]
        return Answer("compare", [table(result) for result in results], iterations, notes)


def compare(
    first: RunLike | Sequence[RunLike],
    second: RunLike | Sequence[RunLike],
    *,
    name: str = "train",
) -> Comparison:
    """Compare two groups of runs by the total LCA of each layer and by their final losses.

    If both groups have the same seeds, each exactly once, the p-values are from paired t-tests of the differences
    between runs with the same seed. Otherwise they are from Welch's t-tests, which allow different variances.

    Source: arXiv 1909.01440, section 4, figures 4 and S13.

    Args:
        first: Runs of the first group: a path, a URL, an ``lca.Run``, or a sequence of these.
        second: Runs of the second group, of the same model.
        name: Name of the allocation.

    Returns:
        The total LCA of each layer and the final losses of both groups, in units of the loss (nats for cross-entropy),
        with p-values.

    Raises:
        LCAError: If the runs have different models, or a run has no such allocation or no usable iteration in it.

    Example:
        >>> lca.analysis.compare(["regular-0.zarr", "regular-1.zarr"], ["frozen-0.zarr", "frozen-1.zarr"])
    """
    n_first = len(open_runs(first))
    runs = open_runs([*open_runs(first), *open_runs(second)])
    results = [layers(run, name=name) for run in runs]
    splits = [split for split in SPLITS if all(_has_final_loss(run, split) for run in runs)]
    losses = [[float(run.allocation(split).read("loss")[-1]) for split in splits] for run in runs]
    values = np.array([[*r.total, r.total.sum(), *loss] for r, loss in zip(results, losses, strict=True)])
    a, b = values[:n_first], values[n_first:]
    blocks = find_blocks(runs, np.arange(len(runs)) >= n_first)
    return Comparison(
        rows=[*results[0].layers, "sum", *(f"final loss, {split}" for split in splits)],
        n_layers=len(results[0].layers),
        first=a,
        second=b,
        seeds=list(blocks) or None,
        p=differs_in_pairs(*values[list(blocks.values())].swapaxes(0, 1)) if blocks else differs_between(a, b),
        iterations=[result.iterations for result in results],
    )


def _has_final_loss(run: Run, split: str) -> bool:
    """Return whether the allocation named after a split has a finite loss over the whole split at the last iterate."""
    if split not in run.allocations:
        return False
    allocation = run.allocation(split)
    examples, of_all = (allocation.attributes[name] for name in ("examples", "examples_in_split"))
    return bool(examples == of_all and np.isfinite(allocation.read("loss")[-1]))
