"""How exact is an allocation, of the sum and of the parts?     [arXiv 1909.01440, table S1]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Column, Report, Table, whole
from lca.analysis.iterations import Iterations, iterations
from lca.errors import LCAError
from lca.store.audit import mean_with_confidence
from lca.store.run import Run
from lca.store.summary import Summary, read, summarize

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """The certificates of the allocations of a run. summaries, rules, iterations: by name of the allocation.

    Iterations that did not converge are in them: theirs is the error that is asked for.
    """

    summaries: dict[str, Summary]
    rules: dict[str, str]
    iterations: dict[str, Iterations]


@dataclass(frozen=True)
class LossCurve:
    """The loss and what the parts sum to, in the loss's unit; NaN where an iteration is not allocated or not finite.

    loss: (T+1,), L(θ_t). allocated, residual: (T,), Σ A and Σ A − ΔL. tolerance: of the residual.
    """

    loss: Floats
    allocated: Floats
    residual: Floats
    tolerance: float

    @property
    def stretches(self) -> list[NDArray[np.int64]]:
        """The iterates of each stretch of successive iterations that are allocated and finite."""
        there = np.flatnonzero(np.isfinite(self.allocated))
        parts = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1)
        return [np.append(part, part[-1] + 1) for part in parts if len(part)]

    def summed(self, stretch: NDArray[np.int64]) -> Floats:
        """The loss at the iterates of a stretch as the parts make it: that at the first of them, and Σ A from there."""
        return np.asarray(self.loss[stretch[0]] + np.append(0, np.cumsum(self.allocated[stretch[:-1]])))


def loss_curve(run: Run, name: str = "train") -> LossCurve:
    """The loss curve of an allocation, with the iterations that did not converge."""
    allocation = run.allocation(name)
    chosen = iterations(allocation, unconverged=True).counted
    allocated, residual = (np.where(chosen, read(allocation, array), np.nan) for array in ("allocated", "residual"))
    return LossCurve(read(allocation, "loss"), allocated, residual, float(allocation.attributes["tolerance"]))


def error(run: Run, names: Sequence[str] = ()) -> Errors:
    """Of these allocations, or of all that are complete."""
    chosen = [run.allocation(name) for name in names or run.allocations]
    chosen = [allocation for allocation in chosen if names or allocation.complete]
    if not chosen:
        raise LCAError(f"{run.path} has no complete allocation. Make one with `lca allocate {run.path}`.")
    return Errors(
        {allocation.name: summarize(allocation) for allocation in chosen},
        {allocation.name: str(allocation.attributes["rule"]) for allocation in chosen},
        {allocation.name: iterations(allocation, unconverged=True) for allocation in chosen},
    )


def report(results: Sequence[Errors]) -> Report:
    """A row for each allocation that all runs have     [table S1]"""
    names = [name for name in results[0].summaries if all(name in result.summaries for result in results)]
    if not names:
        raise LCAError("the runs have no allocation in common, of those that are complete.")

    def column(
        figure: Callable[[Summary], float], digits: int = 2, text: Callable[[float], str] | None = None
    ) -> Column:
        return Column(np.array([[figure(result.summaries[n]) for n in names] for result in results]), digits, text)

    def exponent(value: float) -> str:
        return f"{value:.1e}"

    table = Table(
        "allocation",
        [f"{name}, {results[0].rules[name]}" for name in names],
        {
            "iterations": Column(np.array([[r.iterations[n].n for n in names] for r in results]), text=whole),
            "|Σ A − ΔL| (nats)": column(lambda s: abs(s.cumulative_residual), text=exponent),
            "of ΔL %": column(lambda s: 100 * abs(s.cumulative_residual / s.change) if s.change else np.nan, 4),
            "largest (nats)": column(lambda s: s.largest_residual, text=exponent),
            "gradients": column(lambda s: s.gradients_per_iteration),
            "refined": column(lambda s: s.refined, text=whole),
            "not converged": column(lambda s: s.unconverged, text=whole),
            "parts off %": column(lambda s: 100 * mean_with_confidence(s.audit.part_error)[0] if s.audit else np.nan),
            "signs wrong %": column(
                lambda s: 100 * mean_with_confidence(s.audit.sign_change)[0] if s.audit else np.nan
            ),
        },
    )
    notes = [
        "ΔL: the loss change over the iterations that are finite; largest: of a single iteration",
        "parts: Σ|A − exact| / Σ|A| of the audited iterations, – where there was no audit",
    ]
    fullest = [max(result.iterations.values(), key=lambda chosen: chosen.n) for result in results]
    return Report("error", [table], fullest, notes)
