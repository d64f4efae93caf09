"""The certificate of an allocation: its loss change, its residuals and the error of its parts."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.store.allocation import Allocation
from lca.store.audit import Audit
from lca.store.schema import Status
from lca.text import facts, html_facts, number, pluralize

ROUNDING = 8  # assumed bound on the relative rounding error of a loss, in machine epsilons
BOUNDS_HOLD = "hold for the residual of every iteration and for the cumulative residual"


@dataclass(frozen=True)
class Summary:
    """The certificate of an allocation. str() returns it as text.

    Losses, residuals and LCA are in units of the loss. Sums are over the iterations that are allocated and finite,
    whether they converged or not.

    Attributes:
        path: Path or URL of the run.
        name: Name of the allocation.
        unit: Unit of the loss, such as "nats".
        iterations: Number of requested iterations.
        complete: Whether every iteration of the run was requested, and all are allocated and finite.
        loss_start: Loss at the start of the first finite iteration.
        loss_end: Loss at the end of the last finite iteration.
        change: Sum of the loss changes. It is L(θ_T) − L(θ_0) if `complete`.
        allocated: Sum of all LCA, Σ A. If it is below zero, the parameters lowered the loss.
        cumulative_residual: `allocated` minus `change`.
        rounding: Assumed size of the rounding errors of `change`.
        largest_residual: Largest absolute residual of an iteration.
        gradients_per_iteration: Mean number of full-set gradients per iteration. The gradient at the start of an
            iteration is not counted, because it is normally the gradient at the end of the previous one.
        refined: Number of iterations with more subintervals than the rule starts with.
        unconverged: Number of iterations that exceed the tolerance of the residual or of the part estimate.
        unconverged_residual: Sum of the absolute residuals of these iterations.
        not_finite: Number of iterations with a loss, gradient or iterate that is not finite.
        first_not_finite: Index of the first such iteration. None if there are none.
        tolerance: Largest residual allowed in an iteration.
        total_tolerance: Largest cumulative residual allowed, as a fraction of the loss change.
        largest_estimate: Largest part estimate of an iteration, as a fraction of Σ|A|.
        largest_estimate_at: The iteration with this estimate. None if no iteration is allocated.
        audit: Error of the parts, measured on the audited iterations. None if there was no audit.
        examples: Number of examples over which the loss is averaged.
        examples_in_split: Number of examples in the split.
        standard_error: Standard errors of `loss_start`, `loss_end` and `change`, with the keys "start", "end" and
            "change". None unless a subset of the split was used.
        remarks: Properties of the run or of the loss that the numbers depend on, as sentences.
    """

    path: str
    name: str
    unit: str
    iterations: int
    complete: bool
    loss_start: float
    loss_end: float
    change: float
    allocated: float
    cumulative_residual: float
    rounding: float
    largest_residual: float
    gradients_per_iteration: float
    refined: int
    unconverged: int
    unconverged_residual: float
    not_finite: int
    first_not_finite: int | None
    tolerance: float
    total_tolerance: float
    largest_estimate: float
    largest_estimate_at: int | None
    audit: Audit | None
    examples: int
    examples_in_split: int
    standard_error: dict[str, float] | None
    remarks: list[str]

    @property
    def within_total(self) -> bool:
        """Whether the cumulative residual is within its bound or no larger than rounding errors."""
        return abs(self.cumulative_residual) <= max(self.total_tolerance * abs(self.change), self.rounding)

    @property
    def within_bounds(self) -> bool:
        """Whether every iteration converged and is finite, and the cumulative residual is within its bound."""
        return self.within_total and not self.unconverged and not self.not_finite

    @property
    def relative_residual(self) -> float:
        """The absolute cumulative residual as a fraction of |`change`|. NaN if `change` is only a rounding error."""
        return abs(self.cumulative_residual / self.change) if abs(self.change) > self.rounding else float("nan")

    def facts(self) -> list[tuple[str, str]]:
        """Return the certificate as (label, text) pairs."""
        unit, subset = self.unit, f", using {self.examples:,} of {self.examples_in_split:,} examples"
        sample = "" if self.examples == self.examples_in_split else subset
        n = self.iterations - self.not_finite
        over = "L_T − L_0 =" if self.complete else f"change over {pluralize(n, 'allocated iteration')}"
        share = "the loss change is only a rounding error"
        if not math.isnan(self.relative_residual):
            share = f"{number(100 * self.relative_residual, 2)} % of the loss change"
        return [
            ("allocated", f"{pluralize(self.iterations, 'iteration')} of {self.path} into lca/{self.name}{sample}"),
            ("loss", f"{number(self.loss_start)} → {number(self.loss_end)} {unit} ({over} {number(self.change)})"),
            *_describe_standard_error(self.standard_error, unit),
            ("Σ A", f"{number(self.allocated)} {unit}, the sum of all LCA (below zero helps, above zero hurts)"),
            ("cumulative residual", f"{self.cumulative_residual:.2e} {unit}, {share}"),
            (
                "largest residual",
                f"{self.largest_residual:.2e} {unit} in one iteration (tolerance {self.tolerance:.3g})",
            ),
            ("gradients", f"{self.gradients_per_iteration:.2f} full-set gradients per iteration"),
            ("refined", pluralize(self.refined, "iteration")),
            ("not converged", self._describe_unconverged()),
            *_describe_parts(self),
            *(("remark", remark) for remark in self.remarks),
            ("bounds", BOUNDS_HOLD if self.within_bounds else "DO NOT HOLD: " + "; ".join(self._failures())),
        ]

    def _describe_unconverged(self) -> str:
        if not self.unconverged:
            return "none"
        n = pluralize(self.unconverged, "iteration")
        return f"{n}, counted in every sum, with residuals of {self.unconverged_residual:.2e} {self.unit} in total"

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
        allocation: A complete allocation.

    Returns:
        The certificate.

    Example:
        >>> print(lca.summarize(lca.open("run.zarr").allocation("train")))
    """
    attributes = allocation.attributes
    loss, status = allocation.read("loss"), allocation.read("status")
    finite = is_counted(status)
    allocated, residual, intervals, estimate = (
        allocation.read(name)[finite] for name in ("allocated", "residual", "intervals", "part_estimate")
    )
    changes, at, not_finite = allocated - residual, np.flatnonzero(finite), np.flatnonzero(status == Status.NOT_FINITE)
    at_limit = status[finite] == Status.AT_LIMIT
    loss_start, loss_end = (loss[at[0]], loss[at[-1] + 1]) if len(at) else (np.nan, np.nan)
    if len(at) and np.isnan(loss_end):  # the row of this iterate belongs to an iteration that was not requested
        loss_end = loss[at[-1]] + changes[-1]
    return Summary(
        path=str(allocation.run_path),
        name=allocation.name,
        unit=attributes["unit"],
        iterations=len(allocation.iterations),
        complete=bool(finite.all()),
        loss_start=float(loss_start),
        loss_end=float(loss_end),
        change=float(changes.sum()),
        allocated=float(allocated.sum()),
        cumulative_residual=float(residual.sum()),
        rounding=combine_rounding(bound_rounding(loss, attributes["dtype"])[finite]),
        largest_residual=float(np.abs(residual).max(initial=0.0)),
        gradients_per_iteration=float(intervals.mean()) if len(intervals) else 0.0,
        refined=int((intervals > (2 if attributes["rule"] == "simpson" else 1)).sum()),
        unconverged=int(at_limit.sum()),
        unconverged_residual=float(np.abs(residual[at_limit]).sum()),
        not_finite=len(not_finite),
        first_not_finite=int(not_finite[0]) if len(not_finite) else None,
        tolerance=attributes["tolerance"],
        total_tolerance=attributes["total_tolerance"],
        largest_estimate=float(estimate.max(initial=0.0)),
        largest_estimate_at=int(at[np.argmax(estimate)]) if len(at) else None,
        audit=Audit.from_json(audit) if (audit := attributes.get("audit_result")) else None,
        examples=attributes["examples"],
        examples_in_split=attributes["examples_in_split"],
        standard_error=attributes.get("standard_error"),
        remarks=attributes.get("remarks", []),
    )


def is_counted(status: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return a mask of the iterations that are allocated and finite."""
    return np.asarray((status == Status.CONVERGED) | (status == Status.AT_LIMIT))


def bound_rounding(loss: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Return the size of the rounding errors of the loss change of each iteration, shape (T,).

    `loss` is L (T+1,), and `dtype` is that of the iterates. The errors are taken to be 8 eps max(|L(θ_t)|, |L(θ_t+1)|),
    where eps is the machine epsilon of `dtype`.
    """
    return np.asarray(ROUNDING * np.finfo(dtype).eps * np.fmax(np.abs(loss[1:]), np.abs(loss[:-1])))


def combine_rounding(rounding: NDArray[np.float64]) -> float:
    """Return the size of the rounding error of a sum over iterations, whose errors are assumed to be independent."""
    return float(np.sqrt(np.nansum(rounding**2)))


def _describe_standard_error(error: dict[str, float] | None, unit: str) -> list[tuple[str, str]]:
    """Describe how far the loss over a subset may be from the loss over the whole split."""
    if not error:
        return []
    ends = f"{number(error['start'], 2)} {unit} at the start, {number(error['end'], 2)} at the end"
    return [("sampling error", f"{ends}, {number(error['change'], 2)} in their difference (standard errors)")]


def _describe_parts(summary: Summary) -> list[tuple[str, str]]:
    """Describe the error of the parts: the mean with its 95 % interval, and the largest error and estimate."""
    audit, at = summary.audit, summary.largest_estimate_at
    estimate = (
        f"at most {100 * summary.largest_estimate:.2g} %, in iteration {at} (difference from the next coarser rule)"
    )
    estimates = [("part estimate", estimate)] if at is not None else []
    if audit is None:
        return [("part error", "not audited"), *estimates]
    i = int(np.argmax(audit.part_error))
    n = f"{len(audit.iterations):,} of {audit.n_iterations:,} iterations audited"
    chosen = f", {len(audit.chosen)} of which were chosen as the least certain" if audit.chosen else ""
    return [
        ("part error", f"{_describe_mean(audit, 'part_error')} of Σ|A| on average ({n})"),
        (
            "largest part error",
            f"{100 * audit.part_error[i]:.2g} % in iteration {audit.iterations[i]}, of those audited{chosen}",
        ),
        *estimates,
        ("audit error", f"{_describe_mean(audit, 'half_way')} of Σ|A| (the reference at half its subintervals)"),
        ("wrong signs", f"{_describe_mean(audit, 'sign_change')} of the parameters"),
        ("percentage helping", f"off by {_describe_mean(audit, 'helping_shift')}"),
    ]


def _describe_mean(audit: Audit, figure: str) -> str:
    """Describe a mean over the iterations with its 95 % interval, such as "0.31 % (95 % interval 0.27 to 0.36)"."""
    signed = figure == "helping_shift"
    unit, scale = (" percentage points", 1) if signed else (" %", 100)
    mean, half = (scale * value for value in audit.mean(figure))
    if not half > 0:
        return f"{mean:.2g}{unit}"
    digits = min(max(0, -math.floor(math.log10(half))), 6)
    low, high = mean - half if signed else max(mean - half, 0.0), mean + half
    return f"{mean:z.{digits}f}{unit} (95 % interval {low:z.{digits}f} to {high:z.{digits}f})"
