"""Integration with a fixed number of points in every iteration, as attribution tools do along their paths.

Captum (attr/_utils/approximation_methods.py): `gausslegendre`, its default, and `riemann_trapezoid`. The latter gives
each of n points from 0 to 1 the weight 1/n and the two ends half of that, so that its weights sum to 1 − 1/n, and it
falls short by that part. ExPLAIND (arXiv 2505.20076, model_paths.py): the plain mean over the middles of n equal steps,
100 at the step 0.01. The rules are Captum's and ExPLAIND's, the path is that of LCA, from θ_t to θ_{t+1}.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.flows.full_set import Gradient

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """∫₀¹ f ≈ Σ weights f(nodes)."""

    nodes: Floats
    weights: Floats


def gauss_legendre(n: int) -> Rule:
    """Captum's `gausslegendre`."""
    nodes, weights = np.polynomial.legendre.leggauss(n)  # on [-1, 1]
    return Rule((1 + nodes) / 2, weights / 2)


def riemann_trapezoid(n: int) -> Rule:
    """Captum's `riemann_trapezoid`."""
    weights = np.full(n, 1 / n)
    weights[[0, -1]] /= 2
    return Rule(np.linspace(0, 1, n), weights)


def middles(n: int) -> Rule:
    """ExPLAIND's."""
    return Rule((np.arange(n) + 0.5) / n, np.full(n, 1 / n))


RULES = {
    "gausslegendre-10": gauss_legendre(10),
    "gausslegendre-100": gauss_legendre(100),
    "trapezoid-10": riemann_trapezoid(10),
    "trapezoid-100": riemann_trapezoid(100),
    "explaind-100": middles(100),
}


def allocate(gradient: Gradient, theta0: NDArray[Any], theta1: NDArray[Any], rule: Rule) -> Floats:
    """A (K,) of the iteration from theta0 to theta1, each (K,), summed in float64."""
    delta = theta1.astype(np.float64) - theta0
    mean = np.zeros_like(delta)
    for node, weight in zip(rule.nodes, rule.weights, strict=True):
        mean += weight * gradient(theta0 + node * delta)
    return np.asarray(delta * mean)
