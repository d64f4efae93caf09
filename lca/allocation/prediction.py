"""Prediction of the error of the trapezoidal rule, from which the adaptive rule decides where to use Simpson's rule.

The predicted quantity is the part error: the sum of the absolute errors of A_i, relative to Σ|A|. The curvature share
Σ|½Δ(g1 − g0)| / Σ|A| of an iteration is known without a further gradient, and the part error of the trapezoidal rule is
roughly proportional to it. The factor is learned where Simpson's rule was used, because there the difference between
the two rules is close to the error of the trapezoidal rule.
"""

from collections.abc import Sequence
from math import inf

import numpy as np

from lca.allocation.steps import Steps
from lca.store.blocks import Blocks

WARM_UP = 4  # number of factors needed for a prediction
MEMORY = 16  # a prediction uses at most this many of the latest factors
QUANTILE = 0.9  # quantile of these factors that is used, so that most errors are smaller than predicted
SHORT = 16  # a block with at most this many iterations is too short to learn from
N_SPREAD = 8  # iterations, spread over the run, from which short blocks learn instead
WORTHWHILE = 8 * N_SPREAD  # smallest number of iterations for which this pays off
LONGEST = 16  # largest number of successive iterations that may be integrated by the trapezoidal rule


class TrapezoidPredictor:
    """Learns the part error of the trapezoidal rule from the iterations of one block, in order.

    Predictions for a block use only its own iterations and `factors`, so the result does not depend on the order in
    which blocks are allocated.
    """

    def __init__(self, part_tolerance: float, factors: Sequence[float] = ()) -> None:
        self.part_tolerance = part_tolerance
        self._factors = list(factors)
        self._n_trapezoids = 0

    def observe(self, curvature_share: float, part_estimate: float, intervals: int) -> None:
        """Learn from an iteration that has been integrated."""
        if intervals < 2:
            self._n_trapezoids += 1
            return
        self._n_trapezoids = 0
        if curvature_share > 0:
            self._factors.append(_estimate_factor(curvature_share, part_estimate, intervals))

    @property
    def curvature_limit(self) -> float:
        """The largest curvature share for which the next iteration keeps the trapezoidal rule, or −inf to reject it."""
        if len(self._factors) < WARM_UP or self._n_trapezoids >= LONGEST:
            return -inf
        factor = float(np.quantile(self._factors[-MEMORY:], QUANTILE))
        return self.part_tolerance / factor if factor > 0 else inf


def learn_factors(steps: Steps, iterations: range, blocks: Blocks) -> list[float]:
    """Return the factors of a few evenly spread iterations, or [] if the blocks are long enough to learn from.

    Blocks are short if the model is large, or if only every nth iteration is allocated. Returns [] as well if there are
    too few iterations for this to pay off.
    """
    longest = max(sum(t in iterations for t in blocks.range(block)) for block in range(len(blocks)))
    if longest > SHORT or len(iterations) < WORTHWHILE:
        return []
    chosen = [iterations[len(iterations) * (2 * i + 1) // (2 * N_SPREAD)] for i in range(N_SPREAD)]
    integrals = [
        steps.integrate(steps.take(t), min_intervals=2)
        for t in chosen
        if steps.theta.is_finite(t) and steps.theta.is_finite(t + 1)
    ]
    return [
        _estimate_factor(integral.curvature_share, integral.part_estimate, integral.intervals)
        for integral in integrals
        if integral.curvature_share > 0
    ]


def _estimate_factor(curvature_share: float, part_estimate: float, intervals: int) -> float:
    """Return the ratio of the trapezoidal rule's part error to the curvature share.

    The part estimate with n subintervals approximates the error with n/2. The error is assumed to be inversely
    proportional to the number of subintervals, as it is at kinks.
    """
    return part_estimate * intervals / 2 / curvature_share
