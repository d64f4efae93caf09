"""The loss change of one iteration, divided among the parameters; pure but for the gradient that it is handed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import isfinite

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

# The first attempt. Simpson and the trapezoid are refined by Simpson; the first order, A = Δ · ∇L(θ_t), is what it is.
RULES = ("simpson", "trapezoid", "first-order")


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
    min_intervals: int = 1,
    rule: str = "simpson",
) -> Integral:
    """Allocate the loss change of one iteration to its parameters.

    A_i = Δ_i · ∫₀¹ ∂_i L(θ0 + sΔ) ds, by composite Simpson     [arXiv 1909.01440, eq. 3 and the text below it]

    n doubles from 2 (from 1 with the trapezoid) until it is at least min_intervals and
    |Σ A − (L(θ1) − L(θ0))| ≤ tolerance, or would be over max_intervals. With the first order n is 1 and stays it.
    theta0, theta1: (K,), the iterates. start: the evaluation at theta0, already known.
    Not converging is a result (AT_LIMIT), not an exception; so is a loss or a gradient that is not finite (NOT_FINITE,
    with NaN for A).
    """
    end = gradient(theta1)
    delta = theta1.to(torch.float64, copy=True).sub_(theta0)
    change = end.loss - start.loss
    if not torch.isfinite(change):
        return _not_finite(delta, 0, end)
    for n, mean_gradient in _attempts(gradient, theta0, theta1, start, end, rule):
        allocation = mean_gradient.mul_(delta)
        total = allocation.sum()
        allocated, residual = torch.stack([total, total - change]).tolist()
        if not isfinite(allocated):
            return _not_finite(delta, n, end)
        converged = abs(residual) <= tolerance
        if (converged and n >= min_intervals) or 2 * n > max_intervals:
            break
    status = Status.CONVERGED if converged else Status.AT_LIMIT
    return Integral(allocation, allocated, residual, n, status, end)


def _attempts(
    gradient: Gradient, theta0: Tensor, theta1: Tensor, start: Evaluation, end: Evaluation, rule: str
) -> Iterator[tuple[int, Tensor]]:
    """(n, the mean gradient along the step (K,) by n subintervals), ever finer; each uses all gradients before it.

    The mean is a vector of its own, for the caller to change. What is added is added in place: at K in the millions a
    new vector costs more than its arithmetic.
    """
    if rule == "first-order":
        yield 1, start.gradient.to(torch.float64, copy=True)
        return
    ends = start.gradient.to(torch.float64, copy=True).add_(end.gradient)
    if rule == "trapezoid":
        yield 1, ends / 2

    def sum_at(nodes: list[float]) -> Tensor:
        total = gradient(torch.lerp(theta0, theta1, nodes[0])).gradient.to(torch.float64, copy=True)
        for s in nodes[1:]:
            total += gradient(torch.lerp(theta0, theta1, s)).gradient
        return total

    simpson = Simpson.start(ends, sum_at(odd_nodes(2)))
    while True:
        yield simpson.n, simpson.integral()
        simpson = simpson.halve(sum_at(odd_nodes(2 * simpson.n)))


def _not_finite(delta: Tensor, intervals: int, end: Evaluation) -> Integral:
    nan = float("nan")
    return Integral(torch.full_like(delta, nan), nan, nan, intervals, Status.NOT_FINITE, end)
