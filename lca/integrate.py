"""The loss change of one iteration, divided among the parameters; pure but for the gradient that it is handed."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from lca.quadrature import Simpson, odd_nodes


class Status(IntEnum):
    """What became of an iteration; the values are those of the array `status`."""

    NOT_ALLOCATED = 0
    CONVERGED = 1
    AT_LIMIT = 2
    NOT_FINITE = 3


@dataclass(frozen=True)
class Evaluation:
    """The loss (float64, no dimension) and its gradient (K,) at one point, on the point's device."""

    loss: Tensor
    gradient: Tensor


Gradient = Callable[[Tensor], Evaluation]


@dataclass(frozen=True)
class Integral:
    """The allocation of one iteration.

    allocation: A (K,) in float64, in the units of L. allocated: Σ A. residual: Σ A − (L(θ1) − L(θ0)).
    intervals: the n of the rule. end: the evaluation at θ1, which is the start of the next iteration.
    """

    allocation: Tensor
    allocated: float
    residual: float
    intervals: int
    status: Status
    end: Evaluation


def integrate_iteration(
    gradient: Gradient,
    theta0: Tensor,
    theta1: Tensor,
    start: Evaluation,
    *,
    tolerance: float,
    max_intervals: int,
    min_intervals: int = 2,
) -> Integral:
    """Allocate the loss change of one iteration to its parameters.

    A_i = Δ_i · ∫₀¹ ∂_i L(θ0 + sΔ) ds, by composite Simpson     [arXiv 1909.01440, eq. 3 and the text below it]

    n doubles from 2 until it is at least min_intervals and |Σ A − (L(θ1) − L(θ0))| ≤ tolerance, or is max_intervals.
    theta0, theta1: (K,), the iterates. start: the evaluation at theta0, already known.
    Not converging is a result (AT_LIMIT), not an exception; so is a loss or a gradient that is not finite (NOT_FINITE,
    with NaN for A).
    """
    end = gradient(theta1)
    delta = theta1.double() - theta0.double()
    change = end.loss - start.loss

    def sum_at(nodes: list[float]) -> Tensor:
        total = torch.zeros_like(delta)
        for s in nodes:
            total += gradient(torch.lerp(theta0, theta1, s)).gradient
        return total

    if not torch.isfinite(change):
        return _not_finite(delta, 0, end)
    rule = Simpson.start(start.gradient.double() + end.gradient, sum_at(odd_nodes(2)))
    while True:
        allocation = delta * rule.integral
        total = allocation.sum()
        allocated, residual = torch.stack([total, total - change]).tolist()
        if allocated != allocated or abs(allocated) == float("inf"):
            return _not_finite(delta, rule.n, end)
        converged = abs(residual) <= tolerance
        if (converged and rule.n >= min_intervals) or 2 * rule.n > max_intervals:
            status = Status.CONVERGED if converged else Status.AT_LIMIT
            return Integral(allocation, allocated, residual, rule.n, status, end)
        rule = rule.halve(sum_at(odd_nodes(2 * rule.n)))


def _not_finite(delta: Tensor, intervals: int, end: Evaluation) -> Integral:
    nan = float("nan")
    return Integral(torch.full_like(delta, nan), nan, nan, intervals, Status.NOT_FINITE, end)
