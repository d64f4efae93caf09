"""What an allocation came to: its certificate, from its arrays alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.audit import Audit
from lca.integrate import Status
from lca.store import Allocation


@dataclass(frozen=True)
class Summary:
    """What an allocation came to, from its arrays. Losses and residuals are in the loss's unit.

    largest_residual: the largest |residual| of an iteration. gradients_per_iteration: the mean number of full-set
    gradients in an iteration's integral, the one at its end included and the one at its start not.
    refined: iterations with more subintervals than the rule begins with. unconverged, not_finite: by status.
    audit: the error of the parts, on the audited iterations; None if there was no audit.
    within_bounds: whether every iteration converged and the cumulative residual is under its bound.
    """

    name: str
    iterations: int
    loss_start: float
    loss_end: float
    allocated: float
    cumulative_residual: float
    largest_residual: float
    gradients_per_iteration: float
    refined: int
    unconverged: int
    not_finite: int
    tolerance: float
    total_tolerance: float
    audit: Audit | None

    @property
    def change(self) -> float:
        """L_T − L_0."""
        return self.loss_end - self.loss_start

    @property
    def within_total(self) -> bool:
        return abs(self.cumulative_residual) <= self.total_tolerance * abs(self.change)

    @property
    def within_bounds(self) -> bool:
        return self.within_total and not self.unconverged and not self.not_finite


def summarize(allocation: Allocation) -> Summary:
    """The summary of a complete allocation, from its arrays alone."""
    loss, status = read(allocation, "loss"), read(allocation, "status")
    residual, intervals = read(allocation, "residual"), read(allocation, "intervals")
    return Summary(
        name=allocation.name,
        iterations=len(status),
        loss_start=float(loss[0]),
        loss_end=float(loss[-1]),
        allocated=float(read(allocation, "allocated").sum()),
        cumulative_residual=float(residual.sum()),
        largest_residual=float(np.abs(residual).max(initial=0.0)),
        gradients_per_iteration=float(intervals.mean()) if len(intervals) else 0.0,
        refined=int((intervals > (2 if allocation.attributes["rule"] == "simpson" else 1)).sum()),
        unconverged=int((status == Status.AT_LIMIT).sum()),
        not_finite=int((status == Status.NOT_FINITE).sum()),
        tolerance=allocation.attributes["tolerance"],
        total_tolerance=allocation.attributes["total_tolerance"],
        audit=Audit(**audit) if (audit := allocation.attributes.get("audit_result")) else None,
    )


def read(allocation: Allocation, name: str) -> NDArray[Any]:
    """An array of an allocation, whole."""
    return np.asarray(getattr(allocation, name)[:])
