"""The allocation of one iteration: its loss change is divided among the K parameters.

The functions are pure: they receive the gradient of the loss as a function.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, nan

import torch
from torch import Tensor

from lca.allocation.quadrature import Simpson, odd_nodes
from lca.store.schema import Status
from lca.store.summary import ROUNDING

NOISE = 1e-4  # a residual below this fraction of Σ|A| may be the rounding error of the gradients


@dataclass(frozen=True)
class Evaluation:
    """The loss L (float64, 0-dim) and its gradient ∇L (K,) at a point θ, on the device of θ.

    `slopes`, float64 of shape (class, tensor), holds Σ_i d_i ∂_i L_c along a direction d, where i runs over the
    parameters of a tensor and L_c is the share of class c in L = Σ_c L_c. It is None if the LCA is not split by class.
    """

    loss: Tensor
    gradient: Tensor
    slopes: Tensor | None = None


# gradient(theta), or gradient(theta, direction) if the LCA is split by class.
Gradient = Callable[..., Evaluation]


@dataclass(frozen=True)
class Integral:
    """The allocation of one iteration, in units of the loss.

    `allocation` is A (K,) in float64. Parameter i helps (lowers the loss) if A_i < 0. `allocated` is Σ_i A_i,
    `residual` is Σ_i A_i − (L(θ1) − L(θ0)), and `intervals` is the number n of subintervals.

    `part_estimate` is Σ|A_n − A_{n/2}| / Σ|A_n|, the difference from the next coarser rule. A_1 is the trapezoidal
    rule, whose next coarser rule is the first-order rule. The first-order rule itself is compared with the trapezoidal
    rule. `curvature_share` is the part estimate of the trapezoidal rule, Σ|½Δ(g1 − g0)| / Σ|½Δ(g0 + g1)|, where g0 and
    g1 are the gradients at both ends. `class_allocation` (class, tensor) is the allocation of each L_c, summed over the
    parameters of each tensor.
    """

    allocation: Tensor
    allocated: float
    residual: float
    intervals: int
    status: Status
    part_estimate: float
    curvature_share: float
    class_allocation: Tensor | None = None


def integrate_iteration(
    gradient: Gradient,
    theta0: Tensor,
    theta1: Tensor,
    start: Evaluation,
    end: Evaluation,
    *,
    tolerance: float,
    max_intervals: int,
    min_intervals: int = 1,
    rule: str = "simpson",
    part_tolerance: float = inf,
    curvature_limit: float = inf,
) -> Integral:
    """Allocate the loss change of one iteration to its parameters.

    A_i = Δ_i · ∫₀¹ ∂_i L(θ0 + sΔ) ds, by composite Simpson     [arXiv 1909.01440, eq. 3 and the text below it]

    theta0 and theta1 (K,) are the iterates θ0 and θ1, and Δ = θ1 − θ0. start and end are the evaluations there, with
    slopes along Δ if the LCA is split by class.

    The number n of subintervals starts at 2 (trapezoid and adaptive: 1) and doubles until n ≥ min_intervals, the
    residual |Σ A − (L(θ1) − L(θ0))| is at most the tolerance, or of the size of rounding errors, and the part estimate
    is at most part_tolerance. For n = 1, the curvature share must be at most curvature_limit instead. Doubling stops at
    max_intervals, or when only the residual is too large and doubling no longer reduces it. The first-order rule
    A = Δ · ∇L(θ0) is never refined.

    Failure to converge is a result (status AT_LIMIT), not an exception. If the loss or the gradient is not finite, the
    status is NOT_FINITE and every A_i is NaN.
    """
    delta = theta1.to(torch.float64, copy=True).sub_(theta0)
    first_order = start.gradient * delta
    trapezoid = (end.gradient * delta).add_(first_order).div_(2)
    share = _divide_norms(trapezoid - first_order, trapezoid)
    coarser = first_order if rule in ("trapezoid", "adaptive") else trapezoid
    change, largest_loss = end.loss - start.loss, torch.maximum(end.loss.abs(), start.loss.abs())
    residuals: list[float] = []
    for n, mean_gradient, mean_slopes in _refine(gradient, theta0, theta1, delta, start, end, rule):
        allocation = mean_gradient.mul_(delta)
        total = allocation.sum()
        estimate = _divide_norms(allocation - coarser, coarser if rule == "first-order" else allocation)
        on_device = [total, total - change, allocation.abs().sum(), largest_loss, estimate, share]
        # The host waits for the device only here.
        allocated, residual, size, scale, part_estimate, curvature_share = torch.stack(on_device).tolist()
        if not isfinite(residual):
            return make_not_finite(delta, n, start.slopes)
        residuals.append(abs(residual))
        rounding = ROUNDING * torch.finfo(theta0.dtype).eps * max(size, scale)
        parts_agree = curvature_share <= curvature_limit if n == 1 else part_estimate <= part_tolerance
        converged = abs(residual) <= max(tolerance, rounding) and parts_agree
        status = Status.CONVERGED if converged else Status.AT_LIMIT
        integral = Integral(
            allocation, allocated, residual, n, status, part_estimate, curvature_share, class_allocation=mean_slopes
        )
        finished = converged or (parts_agree and _has_stalled(residuals, size))
        if (finished and n >= min_intervals) or 2 * n > max_intervals:
            break
        coarser = allocation
    return integral


def make_not_finite(like: Tensor, intervals: int = 0, slopes: Tensor | None = None) -> Integral:
    """Return an integral whose values are NaN, with an allocation of the shape of `like` (K,)."""
    classes = None if slopes is None else torch.full_like(slopes, nan)
    allocation = torch.full_like(like, nan, dtype=torch.float64)
    return Integral(allocation, nan, nan, intervals, Status.NOT_FINITE, nan, nan, class_allocation=classes)


def _has_stalled(residuals: list[float], size: float) -> bool:
    """Return whether halving the subintervals no longer reduces the residual.

    Because of kinks in the loss, a halving sometimes fails to reduce the residual although the next one succeeds. Two
    failures in succession are therefore required, or one if the residual is already small compared with `size`, Σ|A|.
    """
    stuck = [later > 0.99 * earlier for earlier, later in pairwise(residuals)]
    return stuck[-2:] == [True, True] or (stuck[-1:] == [True] and residuals[-1] <= NOISE * size)


def _divide_norms(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient of the L1 norms, or 0 if the denominator is 0."""
    norm = denominator.abs().sum()
    return torch.where(norm == 0, 0, numerator.abs().sum() / norm)


def _refine(
    gradient: Gradient,
    theta0: Tensor,
    theta1: Tensor,
    delta: Tensor,
    start: Evaluation,
    end: Evaluation,
    rule: str,
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield n, the mean of ∇L (K,) over the step and the mean of the slopes, for increasing numbers n of subintervals.

    Every refinement reuses all earlier evaluations. The caller may modify the yielded tensors. Sums are accumulated in
    place, because for millions of parameters allocating a vector costs more than the arithmetic.
    """
    direction = () if start.slopes is None else (delta,)

    def sum_at(nodes: list[float]) -> list[Tensor]:
        evaluations = (gradient(torch.lerp(theta0, theta1, s), *direction) for s in nodes)
        total = _get_integrands(next(evaluations))
        for evaluation in evaluations:
            _add(total, evaluation)
        return total

    if rule == "first-order":
        yield 1, *_unpack_means(_get_integrands(start))
        return
    ends = _add(_get_integrands(start), end)
    if rule in ("trapezoid", "adaptive"):
        yield 1, *_unpack_means([f / 2 for f in ends])
    rules = [Simpson.start(f, g) for f, g in zip(ends, sum_at(odd_nodes(2)), strict=True)]
    while True:
        n = rules[0].n
        yield n, *_unpack_means([simpson.compute_integral() for simpson in rules])
        rules = [simpson.halve(odd) for simpson, odd in zip(rules, sum_at(odd_nodes(2 * n)), strict=True)]


def _get_integrands(evaluation: Evaluation) -> list[Tensor]:
    """Return float64 copies of the integrands: the gradient and, if present, the slopes."""
    both = (evaluation.gradient, evaluation.slopes)
    return [f.to(torch.float64, copy=True) for f in both if f is not None]


def _add(total: list[Tensor], evaluation: Evaluation) -> list[Tensor]:
    for f, g in zip(total, (evaluation.gradient, evaluation.slopes), strict=False):
        if g is not None:
            f += g
    return total


def _unpack_means(means: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return means[0], means[1] if len(means) > 1 else None
