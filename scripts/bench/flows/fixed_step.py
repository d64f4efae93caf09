"""Integration with a fixed number of points per iteration, with the rules that attribution tools use.

Captum (attr/_utils/approximation_methods.py) offers `gausslegendre`, its default, and `riemann_trapezoid`. The latter
gives each of n points from 0 to 1 the weight 1/n, except for the two ends, which get half of that. Its weights
therefore sum to 1 − 1/n, and the integral is too small by the factor 1 − 1/n. ExPLAIND (arXiv 2505.20076,
model_paths.py) averages over the midpoints of n equal steps, with n = 100 for its step of 0.01. The path is always that
of LCA, from θ_t to θ_{t+1}.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.flows.full_set import Gradient

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A quadrature rule ∫₀¹ f(s) ds ≈ Σ_k w_k f(s_k), with nodes s_k and weights w_k."""

    nodes: Floats
    weights: Floats


def gauss_legendre(n: int) -> Rule:
    """Return Captum's rule `gausslegendre` with n points."""
    nodes, weights = np.polynomial.legendre.leggauss(n)  # on [-1, 1]
    return Rule((1 + nodes) / 2, weights / 2)


def riemann_trapezoid(n: int) -> Rule:
    """Return Captum's rule `riemann_trapezoid` with n points."""
    weights = np.full(n, 1 / n)
    weights[[0, -1]] /= 2
    return Rule(np.linspace(0, 1, n), weights)


def midpoints(n: int) -> Rule:
    """Return ExPLAIND's rule, the mean over the midpoints of n equal steps."""
    return Rule((np.arange(n) + 0.5) / n, np.full(n, 1 / n))


RULES = {
    "gausslegendre-10": gauss_legendre(10),
    "gausslegendre-100": gauss_legendre(100),
    "trapezoid-10": riemann_trapezoid(10),
    "trapezoid-100": riemann_trapezoid(100),
    "explaind-100": midpoints(100),
}


def allocate(gradient: Gradient, theta0: NDArray[Any], theta1: NDArray[Any], rule: Rule) -> Floats:
    """Allocate the iteration from theta0 (K,) to theta1 (K,). Returns A (K,), accumulated in float64."""
    delta = theta1.astype(np.float64) - theta0
    mean = np.zeros_like(delta)
    for node, weight in zip(rule.nodes, rule.weights, strict=True):
        mean += weight * gradient(theta0 + node * delta)
    return np.asarray(delta * mean)
