"""Which part of the parameters helps in an iteration?     [arXiv 1909.01440, section 3, table 1 and figure 3a]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis.report import Column, Report
from lca.integrate import Status
from lca.store import Run

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Helping:
    """Parameters by the sign of their LCA.

    helped, hurt, zero: (T, tensor), how many have LCA < 0, > 0 and = 0 in each iteration. iterations: (T,), which of
    them are allocated and finite; the others count nowhere. tensors: their names. loss: (T+1,), L(θ_t).
    """

    helped: Counts
    hurt: Counts
    zero: Counts
    iterations: NDArray[np.bool_]
    tensors: list[str]
    loss: Floats

    @property
    def n_left_out(self) -> int:
        """Iterations that are not allocated or not finite."""
        return int((~self.iterations).sum())

    @property
    def percentage(self) -> float:
        """Percentage helping of the parameters with non-zero LCA, averaged over iterations."""
        return _mean_percentage(self.helped.sum(1), self.hurt.sum(1))

    @property
    def percentage_by_tensor(self) -> Floats:
        """The same for each tensor by itself, (tensor,)."""
        return np.array([_mean_percentage(a, b) for a, b in zip(self.helped.T, self.hurt.T, strict=True)])

    def shares(self) -> tuple[Floats, Floats, Floats]:
        """Percentages of all parameters that helped, hurt and had zero LCA, (T,) each; NaN where left out."""
        counts = [np.where(self.iterations, count.sum(1), np.nan) for count in (self.helped, self.hurt, self.zero)]
        n_parameters = counts[0] + counts[1] + counts[2]
        helped, hurt, zero = (100 * count / n_parameters for count in counts)
        return helped, hurt, zero


def helping(run: Run, allocation: str = "train") -> Helping:
    """Count the signs of the LCA, streaming over the blocks of the allocation."""
    source, table = run.allocation(allocation), run.parameters
    status = np.asarray(source.status[:])
    starts = [parameter.offset for parameter in table]
    counts = np.zeros((3, run.n_iterations, len(table)), np.int64)
    for span in source.iteration_blocks:
        lca = np.asarray(source.lca[:, span])
        for count, chosen in zip(counts, (lca < 0, lca > 0, lca == 0), strict=True):
            count[span] = np.add.reduceat(chosen, starts, axis=0, dtype=np.int64).T
    return Helping(
        helped=counts[0],
        hurt=counts[1],
        zero=counts[2],
        iterations=(status == Status.CONVERGED) | (status == Status.AT_LIMIT),
        tensors=[parameter.name for parameter in table],
        loss=np.asarray(source.loss[:]),
    )


def report(runs: Sequence[Run], allocation: str = "train") -> Report:
    """The percentage helping in total and by tensor, over runs of the same model     [table 1]"""
    results = [helping(run, allocation) for run in runs]
    return Report(
        heading="",
        rows=["all parameters", *results[0].tensors],
        columns={"helping %": Column(np.array([[r.percentage, *r.percentage_by_tensor] for r in results]), digits=2)},
        n_iterations=len(results[0].iterations),
        n_left_out=sum(result.n_left_out for result in results),
    )


def _mean_percentage(helped: Counts, hurt: Counts) -> float:
    """(T,), (T,) -> the mean over the iterations that have any non-zero LCA; NaN if none has."""
    moved = helped + hurt > 0
    return float(np.mean(100 * helped[moved] / (helped + hurt)[moved])) if moved.any() else float("nan")
