"""Prediction of the part error of the trapezoid, which tells the adaptive rule where Simpson's rule is needed.

The curvature share Σ|½Δ(g1 − g0)| / Σ|A| of an iteration is known without a further gradient, and the part error of the
trapezoid is roughly proportional to it. The factor is learned where Simpson's rule was used: the difference between
both rules is close to the error of the trapezoid.
"""

from math import inf

import numpy as np

WARM_UP = 4  # iterations that are integrated by Simpson's rule before the first prediction
MEMORY = 16  # latest iterations from which the factor is learned
QUANTILE = 0.9  # the factor is this quantile of theirs, so that most errors are smaller than predicted
LONGEST = 16  # iterations in succession that may be integrated by the trapezoid


class TrapezoidPredictor:
    """Learns how large the part error of the trapezoid is, from the iterations of one block in their order.

    A block is predicted from its own iterations only, so that the result does not depend on the order of the blocks.
    """

    def __init__(self, part_tolerance: float) -> None:
        self.part_tolerance = part_tolerance
        self._factors: list[float] = []
        self._n_trapezoids = 0

    def observe(self, curvature_share: float, part_estimate: float, intervals: int) -> None:
        """Take note of an integrated iteration."""
        if intervals < 2:
            self._n_trapezoids += 1
            return
        self._n_trapezoids = 0
        if curvature_share > 0:
            # Halving the subintervals halves the error at kinks, so this is an estimate for a single interval.
            self._factors.append(part_estimate * intervals / 2 / curvature_share)

    @property
    def curvature_limit(self) -> float:
        """The largest curvature share for which the trapezoid is accurate enough in the next iteration."""
        if len(self._factors) < WARM_UP or self._n_trapezoids >= LONGEST:
            return -inf
        factor = float(np.quantile(self._factors[-MEMORY:], QUANTILE))
        return self.part_tolerance / factor if factor > 0 else inf
