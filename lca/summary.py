"""What an allocation came to: its certificate, from its arrays alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.arrays import Allocation
from lca.audit import Audit
from lca.integrate import Status


@dataclass(frozen=True)
class Summary:
    """What an allocation came to, from its arrays. Losses and residuals are in the loss's unit.

    iterations: those asked for; complete: whether these are all of the run. loss_start, loss_end: at the first and the
    last iterate of those that are allocated and finite; change: the sum of the loss changes of these.
    largest_residual: the largest |residual| of an iteration. gradients_per_iteration: the mean number of full-set
    gradients in an iteration's integral, the one at its end included and the one at its start not.
    refined: iterations with more subintervals than the rule begins with. unconverged, not_finite: by status.
    first_not_finite: which of the latter comes first. audit: the error of the parts, on the audited iterations; None if
    there was no audit. examples, examples_in_split: of which L is the mean, and how many there are.
    standard_error: where these differ, of loss_start, loss_end and change ("start", "end", "change") by sampling.
    within_bounds: whether every iteration converged and the cumulative residual is under its bound.
    """

    name: str
    iterations: int
    complete: bool
    loss_start: float
    loss_end: float
    change: float
    allocated: float
    cumulative_residual: float
    largest_residual: float
    gradients_per_iteration: float
    refined: int
    unconverged: int
    not_finite: int
    first_not_finite: int | None
    tolerance: float
    total_tolerance: float
    audit: Audit | None
    examples: int
    examples_in_split: int
    standard_error: dict[str, float] | None

    @property
    def within_total(self) -> bool:
        return abs(self.cumulative_residual) <= self.total_tolerance * abs(self.change)

    @property
    def within_bounds(self) -> bool:
        return self.within_total and not self.unconverged and not self.not_finite


def summarize(allocation: Allocation) -> Summary:
    """The summary of a complete allocation, from its arrays alone."""
    attributes = allocation.attributes
    loss, status = read(allocation, "loss"), read(allocation, "status")
    there = counted(status)
    allocated, residual, intervals = (read(allocation, name)[there] for name in ("allocated", "residual", "intervals"))
    changes, at, not_finite = allocated - residual, np.flatnonzero(there), np.flatnonzero(status == Status.NOT_FINITE)
    loss_start, loss_end = (loss[at[0]], loss[at[-1] + 1]) if len(at) else (np.nan, np.nan)
    if len(at) and np.isnan(loss_end):  # stored with an iteration that was not asked for
        loss_end = loss[at[-1]] + changes[-1]
    return Summary(
        name=allocation.name,
        iterations=len(allocation.iterations),
        complete=len(allocation.iterations) == len(status),
        loss_start=float(loss_start),
        loss_end=float(loss_end),
        change=float(changes.sum()),
        allocated=float(allocated.sum()),
        cumulative_residual=float(residual.sum()),
        largest_residual=float(np.abs(residual).max(initial=0.0)),
        gradients_per_iteration=float(intervals.mean()) if len(intervals) else 0.0,
        refined=int((intervals > (2 if attributes["rule"] == "simpson" else 1)).sum()),
        unconverged=int((status == Status.AT_LIMIT).sum()),
        not_finite=len(not_finite),
        first_not_finite=int(not_finite[0]) if len(not_finite) else None,
        tolerance=attributes["tolerance"],
        total_tolerance=attributes["total_tolerance"],
        audit=Audit(**audit) if (audit := attributes.get("audit_result")) else None,
        examples=attributes["examples"],
        examples_in_split=attributes["examples_in_split"],
        standard_error=attributes.get("standard_error"),
    )


def counted(status: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which iterations are allocated and finite."""
    return np.asarray((status == Status.CONVERGED) | (status == Status.AT_LIMIT))


def read(allocation: Allocation, name: str) -> NDArray[Any]:
    """An array of an allocation, whole."""
    return np.asarray(getattr(allocation, name)[:])
