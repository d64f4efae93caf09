"""The reference for all methods: composite Simpson with 64 subintervals, accumulated in float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.flows.fixed_step import Floats, Rule
from bench.flows.full_set import Gradient

N = 64


def composite_simpson(n: int) -> Rule:
    weights = np.full(n + 1, 2.0)
    weights[1::2], weights[[0, -1]] = 4, 1
    return Rule(np.arange(n + 1) / n, weights / (3 * n))


def allocate(gradient: Gradient, theta0: NDArray[Any], theta1: NDArray[Any]) -> tuple[Floats, Floats]:
    """Allocate an iteration with N/2 and with N subintervals. Returns both A (K,), computed from the same gradients."""
    fine, coarse = composite_simpson(N), composite_simpson(N // 2).weights
    delta = theta1.astype(np.float64) - theta0
    half, whole = np.zeros_like(delta), np.zeros_like(delta)
    for k, (node, weight) in enumerate(zip(fine.nodes, fine.weights, strict=True)):
        found = gradient(theta0 + node * delta).astype(np.float64)
        whole += weight * found
        if k % 2 == 0:
            half += coarse[k // 2] * found
    return delta * half, delta * whole
