"""How exact is an allocation, of the sum and of the parts?     [arXiv 1909.01440, table S1]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table, format_whole
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.errors import Argument, Call, LCAError
from lca.store.audit import mean_with_confidence
from lca.store.run import Run
from lca.store.summary import Summary, summarize

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Errors(Result):
    """The certificates of the allocations of a run. summaries, rules, iterations: by name of the allocation.

    Iterations that did not converge are included, because their error is part of the answer.
    """

    summaries: dict[str, Summary]
    rules: dict[str, str]
    iterations: dict[str, Iterations]

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """A row for each allocation that all runs have     [table S1]"""
        names = [name for name in results[0].summaries if all(name in result.summaries for result in results)]
        if not names:
            raise LCAError(
                "the runs have no complete allocation in common",
                remedy=("Create one of the same name in each of them with ", Argument("name"), "."),
            )
        notes = [
            "ΔL: the loss change over the iterations that are finite; largest: of a single iteration",
            "parts: Σ|A − exact| / Σ|A| of the audited iterations, – where there was no audit",
        ]
        most = [max(result.iterations.values(), key=lambda chosen: chosen.n) for result in results]
        return Answer("error", [_tabulate_errors(results, names)], most, notes)


@dataclass(frozen=True, repr=False)
class LossCurve(Result):
    """The loss and what the parts sum to, in the loss's unit; NaN where an iteration is not allocated or not finite.

    loss: (T+1,), L(θ_t). allocated, residual: (T,), Σ A and Σ A − ΔL. tolerance: of the residual.
    """

    loss: Floats
    allocated: Floats
    residual: Floats
    tolerance: float
    iterations: Iterations

    @property
    def stretches(self) -> list[NDArray[np.int64]]:
        """The iterates of each stretch of successive iterations that are allocated and finite."""
        finite = np.flatnonzero(np.isfinite(self.allocated))
        parts = np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1)
        return [np.append(part, part[-1] + 1) for part in parts if len(part)]

    def rebuild_loss(self, stretch: NDArray[np.int64]) -> Floats:
        """The loss at the iterates of a stretch according to the parts: that at its first iterate, plus Σ A from it."""
        return np.asarray(self.loss[stretch[0]] + np.append(0, np.cumsum(self.allocated[stretch[:-1]])))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The loss at both ends, and how far the parts are from its change, over runs."""

        def figures(result: Self) -> dict[str, float]:
            finite = result.loss[np.isfinite(result.loss)]
            return {
                "first loss": float(finite[0]),
                "last loss": float(finite[-1]),
                "lowest loss": float(finite.min()),
                "Σ A": float(np.nansum(result.allocated)),
                "Σ A − ΔL": float(np.nansum(result.residual)),
                "largest |Σ A − ΔL| of an iteration": float(np.nanmax(np.abs(result.residual))),
            }

        of_runs = [figures(result) for result in results]
        column = Column(np.array([list(of_run.values()) for of_run in of_runs]), 6)
        table = Table("", list(of_runs[0]), {"nats": column})
        return Answer("loss_curve", [table], [result.iterations for result in results])


@question
def loss_curve(run: Run, *, name: str = "train") -> LossCurve:
    """How did the loss fall, and do the parts sum to it?     [arXiv 1909.01440, section 2]

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about.

    Returns:
        The loss at every iterate and the sum of the parts in every iteration, in the loss's unit (nats for
        cross-entropy); iterations that did not converge are included.

    Raises:
        LCAError: If the run has no such allocation, or nothing of it is allocated.

    Example:
        >>> lca.analysis.loss_curve("run.zarr").loss
    """
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation, unconverged=True)
    allocated, residual = (np.where(chosen.counted, allocation.read(key), np.nan) for key in ("allocated", "residual"))
    tolerance = float(allocation.attributes["tolerance"])
    return LossCurve(allocation.read("loss"), allocated, residual, tolerance, chosen)


@question
def error(run: Run, *, names: Sequence[str] = ()) -> Errors:
    """How exact is an allocation, of the sum and of the parts?     [arXiv 1909.01440, table S1]

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        names: The allocations to ask about; all that are complete if empty.

    Returns:
        The certificate of each allocation, its residuals in the loss's unit (nats for cross-entropy); iterations that
        did not converge are included.

    Raises:
        LCAError: If the run lacks an allocation, or has none that is complete.

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
        {allocation.name: choose_iterations(allocation, unconverged=True) for allocation in chosen},
    )


def _tabulate_errors(results: Sequence[Errors], names: Sequence[str]) -> Table:
    def column(
        figure: Callable[[Summary], float], digits: int = 2, text: Callable[[float], str] | None = None
    ) -> Column:
        return Column(np.array([[figure(result.summaries[n]) for n in names] for result in results]), digits, text)

    def format_exponent(value: float) -> str:
        return f"{value:.1e}"

    def compute_relative(summary: Summary) -> float:
        return 100 * abs(summary.cumulative_residual / summary.change) if summary.change else float("nan")

    def average_audited(figure: str) -> Column:
        return column(lambda s: 100 * mean_with_confidence(getattr(s.audit, figure))[0] if s.audit else np.nan)

    return Table(
        "allocation",
        [f"{name}, {results[0].rules[name]}" for name in names],
        {
            "iterations": Column(np.array([[r.iterations[n].n for n in names] for r in results]), text=format_whole),
            "|Σ A − ΔL| (nats)": column(lambda s: abs(s.cumulative_residual), text=format_exponent),
            "of ΔL %": column(compute_relative, 4),
            "largest (nats)": column(lambda s: s.largest_residual, text=format_exponent),
            "gradients": column(lambda s: s.gradients_per_iteration),
            "refined": column(lambda s: s.refined, text=format_whole),
            "not converged": column(lambda s: s.unconverged, text=format_whole),
            "parts off %": average_audited("part_error"),
            "signs wrong %": average_audited("sign_change"),
        },
    )
