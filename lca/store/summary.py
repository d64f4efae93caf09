"""The certificate of an allocation, from its arrays alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.store.allocation import Allocation
from lca.store.audit import Audit, mean_with_confidence
from lca.store.schema import Status
from lca.text import facts, pluralize, plus_minus


@dataclass(frozen=True)
class Summary:
    """The certificate of an allocation: str() gives it as text. Losses and residuals are in the loss's unit.

    path: of the run. name: of the allocation.
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

    path: str
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

    def facts(self) -> list[tuple[str, str]]:
        """The certificate as (label, text) each."""
        relative = 100 * abs(self.cumulative_residual / self.change) if self.change else float("nan")
        subset = f", {self.examples:,} of {self.examples_in_split:,} examples"
        part = "" if self.examples == self.examples_in_split else subset
        change = f"L_T − L_0 = {self.change:.6f}" if self.complete else f"{self.change:.6f} over these iterations"
        return [
            ("allocated", f"{pluralize(self.iterations, 'iteration')} of {self.path} into lca/{self.name}{part}"),
            ("loss", f"{self.loss_start:.6f} → {self.loss_end:.6f} nats ({change})"),
            *_describe_standard_error(self.standard_error),
            ("Σ A", f"{self.allocated:.6f} nats"),
            ("cumulative residual", f"{self.cumulative_residual:.2e} nats, {relative:.4f} % of the change"),
            ("largest residual", f"{self.largest_residual:.2e} nats in an iteration (tolerance {self.tolerance:g})"),
            ("gradients", f"{self.gradients_per_iteration:.2f} per iteration"),
            ("refined", f"{pluralize(self.refined, 'iteration')}, {self.unconverged} did not converge"),
            *_describe_audit(self.audit),
            ("bounds", "hold" if self.within_bounds else "DO NOT HOLD: " + "; ".join(self._failures())),
        ]

    def _failures(self) -> list[str]:
        """Why the bounds do not hold."""
        failures = [f"{pluralize(self.unconverged, 'iteration')} did not converge"] if self.unconverged else []
        failures += [f"{pluralize(self.not_finite, 'iteration')} not finite"] if self.not_finite else []
        if not self.within_total:
            failures.append(f"the cumulative residual is not within {100 * self.total_tolerance:g} %")
        return failures + ([] if self.first_not_finite is None else [f"the first of them {self.first_not_finite}"])

    def __str__(self) -> str:
        return facts(self.facts())


def summarize(allocation: Allocation) -> Summary:
    """The summary of a complete allocation, from its arrays alone."""
    attributes = allocation.attributes
    loss, status = allocation.read("loss"), allocation.read("status")
    there = is_counted(status)
    allocated, residual, intervals = (allocation.read(name)[there] for name in ("allocated", "residual", "intervals"))
    changes, at, not_finite = allocated - residual, np.flatnonzero(there), np.flatnonzero(status == Status.NOT_FINITE)
    loss_start, loss_end = (loss[at[0]], loss[at[-1] + 1]) if len(at) else (np.nan, np.nan)
    if len(at) and np.isnan(loss_end):  # stored with an iteration that was not asked for
        loss_end = loss[at[-1]] + changes[-1]
    return Summary(
        path=str(allocation.run_path),
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


def is_counted(status: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which iterations are allocated and finite."""
    return np.asarray((status == Status.CONVERGED) | (status == Status.AT_LIMIT))


def _describe_standard_error(error: dict[str, float] | None) -> list[tuple[str, str]]:
    """How far the loss over a subset may be from the loss over the whole split."""
    if not error:
        return []
    ends = f"{error['start']:.6f} and {error['end']:.6f} nats by sampling"
    return [("standard error", f"{ends}, {error['change']:.6f} of the change")]


def _describe_audit(audit: Audit | None) -> list[tuple[str, str]]:
    """The error of the parts, with its mean and 95 % confidence interval over the audited iterations."""
    if audit is None:
        return [("parts", "not audited")]

    def interval(values: Sequence[float], scale: float, digits: int) -> str:
        mean, half = mean_with_confidence(values)
        return plus_minus(scale * mean, scale * half, digits)

    n = pluralize(len(audit.iterations), "iteration")
    return [
        ("parts", f"off by {interval(audit.part_error, 100, 2)} % of Σ|A|, mean ± 95 % confidence of {n} audited"),
        ("its reference", f"off by {interval(audit.half_way, 100, 2)} % at half its subintervals"),
        ("signs", f"wrong for {interval(audit.sign_change, 100, 2)} % of the parameters"),
        ("helping", f"off by {interval(audit.helping_shift, 1, 3)} percentage points"),
    ]
