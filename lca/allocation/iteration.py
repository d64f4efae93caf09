"""The loss change of one iteration, divided among the parameters; pure but for the gradient that it is handed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from lca.allocation.quadrature import Simpson, odd_nodes
from lca.store.schema import Status


@dataclass(frozen=True)
class Evaluation:
    """The loss (float64, no dimension) and its gradient (K,) at one point, on the point's device.

    slopes: by class c and parameter tensor, (class, tensor) in float64: Σ_i d_i ∂_i L_c along a direction d, where L_c
    is the part of L that the examples of the class make up. None where classes are not told apart.
    """

    loss: Tensor
    gradient: Tensor
    slopes: Tensor | None = None


# gradient(theta) or, where classes are told apart, gradient(theta, direction)
Gradient = Callable[..., Evaluation]


@dataclass(frozen=True)
class Integral:
    """The allocation of one iteration.

    allocation: A (K,) in float64, in the units of L. allocated: Σ A. residual: Σ A − (L(θ1) − L(θ0)).
    intervals: the n of the rule. class_allocation: (class, tensor), A of each class's part of L summed over the tensor.
    """

    allocation: Tensor
    allocated: float
    residual: float
    intervals: int
    status: Status
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
) -> Integral:
    """Allocate the loss change of one iteration to its parameters.

    A_i = Δ_i · ∫₀¹ ∂_i L(θ0 + sΔ) ds, by composite Simpson     [arXiv 1909.01440, eq. 3 and the text below it]

    n doubles from 2 (from 1 with the trapezoid) until it is at least min_intervals and
    |Σ A − (L(θ1) − L(θ0))| ≤ tolerance, or would be over max_intervals. With the first order n is 1 and stays it.
    theta0, theta1: (K,), the iterates. start, end: the evaluations there, already known, with slopes along Δ or none.
    Not converging is a result (AT_LIMIT), not an exception; so is a loss or a gradient that is not finite (NOT_FINITE,
    with NaN for A).
    """
    delta = theta1.to(torch.float64, copy=True).sub_(theta0)
    change = end.loss - start.loss
    if not torch.isfinite(change):
        return make_not_finite(delta, 0, start.slopes)
    for n, mean_gradient, mean_slopes in _refine(gradient, theta0, theta1, delta, start, end, rule):
        allocation = mean_gradient.mul_(delta)
        total = allocation.sum()
        allocated, residual = torch.stack([total, total - change]).tolist()
        if not isfinite(allocated):
            return make_not_finite(delta, n, start.slopes)
        converged = abs(residual) <= tolerance
        status = Status.CONVERGED if converged else Status.AT_LIMIT
        integral = Integral(allocation, allocated, residual, n, status, mean_slopes)
        if (converged and n >= min_intervals) or 2 * n > max_intervals:
            break
    return integral


def make_not_finite(like: Tensor, intervals: int = 0, slopes: Tensor | None = None) -> Integral:
    """NaN for every part; like: (K,)."""
    nan = float("nan")
    classes = None if slopes is None else torch.full_like(slopes, nan)
    return Integral(torch.full_like(like, nan, dtype=torch.float64), nan, nan, intervals, Status.NOT_FINITE, classes)


def _refine(
    gradient: Gradient,
    theta0: Tensor,
    theta1: Tensor,
    delta: Tensor,
    start: Evaluation,
    end: Evaluation,
    rule: str,
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """(n, the means over the step of the gradient (K,) and of the slopes), ever finer; all use each evaluation again.

    The means are the caller's to change. What is added is added in place: at K in the millions a new vector costs more
    than its arithmetic.
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
    if rule == "trapezoid":
        yield 1, *_unpack_means([f / 2 for f in ends])
    rules = [Simpson.start(f, g) for f, g in zip(ends, sum_at(odd_nodes(2)), strict=True)]
    while True:
        n = rules[0].n
        yield n, *_unpack_means([simpson.integral() for simpson in rules])
        rules = [simpson.halve(odd) for simpson, odd in zip(rules, sum_at(odd_nodes(2 * n)), strict=True)]


def _get_integrands(evaluation: Evaluation) -> list[Tensor]:
    """What is integrated along a step, in float64 and newly made: the gradient and, where there are any, the slopes."""
    both = (evaluation.gradient, evaluation.slopes)
    return [f.to(torch.float64, copy=True) for f in both if f is not None]


def _add(total: list[Tensor], evaluation: Evaluation) -> list[Tensor]:
    for f, g in zip(total, (evaluation.gradient, evaluation.slopes), strict=False):
        if g is not None:
            f += g
    return total


def _unpack_means(means: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return means[0], means[1] if len(means) > 1 else None
