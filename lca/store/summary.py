"""The certificate of an allocation: its loss change, its residuals and the error of its parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.store.allocation import Allocation
from lca.store.audit import Audit, mean_with_confidence
from lca.store.schema import Status
from lca.text import facts, html_facts, pluralize, plus_minus


@dataclass(frozen=True)
class Summary:
    """The certificate of an allocation. str() returns it as text.

    Losses, residuals and LCA are in units of the loss, which are nats for a cross-entropy. Sums are over the iterations
    that are allocated and finite.

    Attributes:
        path: Path or URL of the run.
        name: Name of the allocation.
        iterations: Number of requested iterations.
        complete: Whether all iterations of the run were requested.
        loss_start: Loss at the start of the first finite iteration.
        loss_end: Loss at the end of the last finite iteration.
        change: Sum of the loss changes.
        allocated: Sum of all LCA, Σ A. Below zero, the parameters lowered the loss.
        cumulative_residual: `allocated` minus `change`.
        largest_residual: Largest absolute residual of an iteration.
        gradients_per_iteration: Mean number of full-set gradients per iteration. The gradient at the start of an
            iteration is not counted, because it is shared with the previous iteration.
        refined: Number of iterations with more subintervals than the rule starts with.
        unconverged: Number of iterations whose residual still exceeds the tolerance.
        not_finite: Number of iterations with a loss or gradient that is not finite.
        first_not_finite: Index of the first such iteration. None if there are none.
        tolerance: Largest residual allowed in an iteration.
        total_tolerance: Largest cumulative residual allowed, as a fraction of the loss change.
        audit: Error of the parts, measured on the audited iterations. None if there was no audit.
        examples: Number of examples over which the loss is averaged.
        examples_in_split: Number of examples in the split.
        standard_error: Standard error of `loss_start`, `loss_end` and `change`, with the keys "start", "end" and
            "change". None unless only a sample of the split was used.
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
        """Whether the cumulative residual is within its bound."""
        return abs(self.cumulative_residual) <= self.total_tolerance * abs(self.change)

    @property
    def within_bounds(self) -> bool:
        """Whether every iteration converged and is finite, and the cumulative residual is within its bound."""
        return self.within_total and not self.unconverged and not self.not_finite

    def facts(self) -> list[tuple[str, str]]:
        """Return the certificate as (label, text) pairs."""
        relative = 100 * abs(self.cumulative_residual / self.change) if self.change else float("nan")
        n_failed = pluralize(self.unconverged, "iteration") if self.unconverged else "none"
        subset = f", using {self.examples:,} of {self.examples_in_split:,} examples"
        sample = "" if self.examples == self.examples_in_split else subset
        change = (
            f"L_T − L_0 = {self.change:.6f}" if self.complete else f"change {self.change:.6f} over these iterations"
        )
        return [
            ("allocated", f"{pluralize(self.iterations, 'iteration')} of {self.path} into lca/{self.name}{sample}"),
            ("loss", f"{self.loss_start:.6f} → {self.loss_end:.6f} nats ({change})"),
            *_describe_standard_error(self.standard_error),
            ("Σ A", f"{self.allocated:.6f} nats, the sum of all LCA (below zero helps, above zero hurts)"),
            ("cumulative residual", f"{self.cumulative_residual:.2e} nats, {relative:.4f} % of the loss change"),
            ("largest residual", f"{self.largest_residual:.2e} nats in one iteration (tolerance {self.tolerance:g})"),
            ("gradients", f"{self.gradients_per_iteration:.2f} full-set gradients per iteration"),
            ("refined", pluralize(self.refined, "iteration")),
            ("not converged", n_failed),
            *_describe_audit(self.audit),
            ("bounds", "hold" if self.within_bounds else "DO NOT HOLD: " + "; ".join(self._failures())),
        ]

    def _failures(self) -> list[str]:
        """List the reasons why the bounds do not hold."""
        failures = [f"{pluralize(self.unconverged, 'iteration')} did not converge"] if self.unconverged else []
        if self.not_finite:
            first = f"the first is iteration {self.first_not_finite}"
            failures.append(f"{pluralize(self.not_finite, 'iteration')} not finite ({first})")
        if not self.within_total:
            bound = f"{100 * self.total_tolerance:g} % of the loss change"
            failures.append(f"the cumulative residual exceeds {bound}")
        return failures

    def __str__(self) -> str:
        return facts(self.facts())

    def _repr_html_(self) -> str:
        return html_facts(self.facts())


def summarize(allocation: Allocation) -> Summary:
    """Compute the certificate of an allocation from its stored arrays.

    Args:
        allocation: Allocation that is complete.

    Returns:
        The certificate.

    Example:
        >>> print(lca.summarize(lca.open("run.zarr").allocation("train")))
    """
    attributes = allocation.attributes
    loss, status = allocation.read("loss"), allocation.read("status")
    finite = is_counted(status)
    allocated, residual, intervals = (allocation.read(name)[finite] for name in ("allocated", "residual", "intervals"))
    changes, at, not_finite = allocated - residual, np.flatnonzero(finite), np.flatnonzero(status == Status.NOT_FINITE)
    loss_start, loss_end = (loss[at[0]], loss[at[-1] + 1]) if len(at) else (np.nan, np.nan)
    if len(at) and np.isnan(loss_end):  # the loss there belongs to an iteration that was not requested
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
    """Return a mask of the iterations that are allocated and finite."""
    return np.asarray((status == Status.CONVERGED) | (status == Status.AT_LIMIT))


def _describe_standard_error(error: dict[str, float] | None) -> list[tuple[str, str]]:
    """Describe how far the loss over a sample may be from the loss over the whole split."""
    if not error:
        return []
    ends = f"{error['start']:.6f} nats at the start, {error['end']:.6f} at the end"
    return [("sampling error", f"{ends}, {error['change']:.6f} in their difference (standard errors)")]


def _describe_audit(audit: Audit | None) -> list[tuple[str, str]]:
    """Describe the error of the parts by means with 95 % confidence intervals over the audited iterations."""
    if audit is None:
        return [("part error", "not audited")]

    def interval(values: Sequence[float], scale: float, digits: int) -> str:
        mean, half = mean_with_confidence(values)
        return plus_minus(scale * mean, scale * half, digits)

    n = pluralize(len(audit.iterations), "audited iteration")
    halved = "reference compared with itself at half its subintervals"
    return [
        ("part error", f"{interval(audit.part_error, 100, 2)} % of Σ|A| (mean ± 95 % confidence over {n})"),
        ("audit error", f"about {interval(audit.half_way, 100, 2)} % of Σ|A| ({halved})"),
        ("wrong signs", f"{interval(audit.sign_change, 100, 2)} % of the parameters"),
        ("percentage helping", f"off by {interval(audit.helping_shift, 1, 3)} percentage points"),
    ]
