"""How exact are the sum and the parts of an allocation?     [arXiv 1909.01440, table S1]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table, format_whole
from lca.analysis.iterations import Iterations, choose_iterations, read_iterations
from lca.analysis.question import Result, question
from lca.errors import Argument, Call, LCAError
from lca.store.run import Run
from lca.store.summary import Summary, summarize
from lca.text import number

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Errors(Result):
    """The certificates of one or more allocations of a run.

    Iterations that did not converge are included, because their error is part of the answer.

    Attributes:
        summaries: The certificate of each allocation, an ``lca.Summary``, by name of the allocation.
        rules: The quadrature rule of each allocation, by name of the allocation.
        iterations: The iterations that were used in each allocation, by name of the allocation.
    """

    summaries: dict[str, Summary]
    rules: dict[str, str]
    iterations: dict[str, Iterations]

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the errors of each allocation that all runs have in common, as in table S1 of the paper."""
        names = [name for name in results[0].summaries if all(name in result.summaries for result in results)]
        if not names:
            raise LCAError(
                "the runs have no complete allocation in common",
                remedy=("Create an allocation with the same ", Argument("name"), " in every run."),
            )
        notes = [
            "|Σ A − ΔL|: cumulative residual, where ΔL is the loss change over all finite iterations.",
            "largest residual: largest absolute residual of an iteration. gradients: full-set gradients per iteration.",
            "part error %: Σ|A − exact| / Σ|exact|. wrong signs %: parameters whose LCA has the wrong sign. Both are "
            "means over all iterations, estimated from the audited ones, and shown as – if there was no audit.",
        ]
        most = [max(result.iterations.values(), key=lambda chosen: chosen.n) for result in results]
        return Answer("error", [_tabulate_errors(results, names)], most, notes)


@dataclass(frozen=True, repr=False)
class LossCurve(Result):
    """The loss and the allocated loss change over time, in units of the loss.

    Attributes:
        loss: L(θ_t) at every iterate, shape (T + 1,).
        allocated: Σ A of every iteration, shape (T,). NaN if the iteration is not allocated or not finite.
        residual: Σ A − ΔL of every iteration, shape (T,). NaN if the iteration is not allocated or not finite.
        tolerance: Largest absolute residual allowed in an iteration.
        iterations: The iterations that were used.
    """

    loss: Floats
    allocated: Floats
    residual: Floats
    tolerance: float
    iterations: Iterations

    @property
    def stretches(self) -> list[NDArray[np.int64]]:
        """Indices of the iterates of each contiguous range of allocated and finite iterations, one array per range."""
        finite = np.flatnonzero(np.isfinite(self.allocated))
        parts = np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1)
        return [np.append(part, part[-1] + 1) for part in parts if len(part)]

    def rebuild_loss(self, stretch: NDArray[np.int64]) -> Floats:
        """Return the loss at the iterates of a stretch: its value at the first iterate plus the cumulative Σ A."""
        return np.asarray(self.loss[stretch[0]] + np.append(0, np.cumsum(self.allocated[stretch[:-1]])))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the first, last and lowest loss, and the difference between Σ A and the loss change."""

        def figures(result: Self) -> dict[str, float]:
            finite = result.loss[np.isfinite(result.loss)]
            return {
                "first loss": float(finite[0]),
                "last loss": float(finite[-1]),
                "lowest loss": float(finite.min()),
                "Σ A": float(np.nansum(result.allocated)),
                "Σ A − ΔL": float(np.nansum(result.residual)),
                "largest |Σ A − ΔL| in one iteration": float(np.nanmax(np.abs(result.residual))),
            }

        of_runs = [figures(result) for result in results]
        column = Column(np.array([list(of_run.values()) for of_run in of_runs]), text=number)
        table = Table("quantity", list(of_runs[0]), {results[0].unit: column})
        notes = ["Σ A: allocated loss change. ΔL: change in the loss. Values below 0 mean that the loss fell."]
        return Answer("loss_curve", [table], [result.iterations for result in results], notes)


@question
def loss_curve(run: Run, *, name: str = "train") -> LossCurve:
    """Compare the loss over time with the sum of the allocated parts.

    Source: arXiv 1909.01440, section 2.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation.

    Returns:
        The loss at every iterate and the sum of the parts in every iteration, in units of the loss (nats for
        cross-entropy). Iterations that did not converge are included.

    Raises:
        LCAError: If the run has no such allocation, or the allocation has no usable iteration.

    Example:
        >>> lca.analysis.loss_curve("run.zarr").loss
    """
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation)
    allocated, residual = (np.where(chosen.mask, allocation.read(key), np.nan) for key in ("allocated", "residual"))
    tolerance = float(allocation.attributes["tolerance"])
    return LossCurve(allocation.read("loss"), allocated, residual, tolerance, chosen)


@question
def error(run: Run, *, names: Sequence[str] = ()) -> Errors:
    """Report how exact the allocations of a run are, in their sums and in their parts.

    Source: arXiv 1909.01440, table S1.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        names: Names of the allocations. If empty, all complete allocations are reported.

    Returns:
        The certificate of each allocation, with residuals in units of the loss (nats for cross-entropy). Iterations
        that did not converge are included.

    Raises:
        LCAError: If the run lacks one of the allocations, or has no complete allocation.

    Example:
        >>> lca.allocate("run.zarr", problem, rule="first-order", name="first-order", keep="tensors")
        >>> lca.analysis.error("run.zarr")
    """
    chosen = [run.allocation(name) for name in names or run.allocations]
    chosen = [allocation for allocation in chosen if names or allocation.complete]
    if not chosen:
        raise LCAError(
            f"{run.path} has no complete allocation", remedy=("Create one with ", Call("allocate", run.path), ".")
        )
    return Errors(
        {allocation.name: summarize(allocation) for allocation in chosen},
        {allocation.name: str(allocation.attributes["rule"]) for allocation in chosen},
        {allocation.name: read_iterations(allocation) for allocation in chosen},
    )


def _tabulate_errors(results: Sequence[Errors], names: Sequence[str]) -> Table:
    def column(
        figure: Callable[[Summary], float], digits: int = 2, text: Callable[[float], str] | None = None
    ) -> Column:
        return Column(np.array([[figure(result.summaries[n]) for n in names] for result in results]), digits, text)

    def format_exponent(value: float) -> str:
        return f"{value:.1e}"

    def average_audited(figure: str) -> Column:
        return column(lambda s: 100 * s.audit.mean(figure).mean if s.audit else np.nan)

    return Table(
        "allocation",
        [f"{name}, {results[0].rules[name]}" for name in names],
        {
            "iterations": Column(np.array([[r.iterations[n].n for n in names] for r in results]), text=format_whole),
            f"|Σ A − ΔL| ({results[0].unit})": column(lambda s: abs(s.cumulative_residual), text=format_exponent),
            "% of ΔL": column(lambda s: 100 * s.relative_residual, 4),
            f"largest residual ({results[0].unit})": column(lambda s: s.largest_residual, text=format_exponent),
            "gradients": column(lambda s: s.gradients_per_iteration),
            "refined": column(lambda s: s.refined, text=format_whole),
            "not converged": column(lambda s: s.unconverged, text=format_whole),
            "part error %": average_audited("part_error"),
            "wrong signs %": average_audited("sign_change"),
        },
    )
