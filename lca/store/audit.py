"""The audit: how accurate the LCA of single parameters is, measured on a sample of iterations.

The residual of the sum cannot show this, because errors of single parameters cancel in it. The audit therefore
integrates some iterations again with four times as many subintervals (the reference) and compares parameter by
parameter. A third integration with twice as many subintervals shows how far the reference itself can be trusted.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_ITERATIONS = 5


@dataclass(frozen=True)
class Audit:
    """The measured error of an allocation, with one value per audited iteration.

    A_n is the stored LCA, from n subintervals. A_2n and A_4n are the LCA from twice and four times as many
    subintervals.

    Attributes:
        iterations: Audited iterations, in increasing order.
        part_error: Error of the parts relative to the reference, Σ|A_n − A_4n| / Σ|A_4n|.
        half_way: Error of the reference at half its subintervals, Σ|A_2n − A_4n| / Σ|A_4n|.
        sign_change: Fraction of the parameters with A_4n ≠ 0 whose sign differs between A_n and A_4n.
        helping_shift: Percentage of parameters that help by A_n minus the percentage by A_4n, in percentage points.
    """

    iterations: list[int]
    part_error: list[float]
    half_way: list[float]
    sign_change: list[float]
    helping_shift: list[float]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


def count_audited(n_candidates: int, fraction: float) -> int:
    """Return the number of iterations to audit: a fraction of the candidates, but at least five, or all if fewer."""
    return min(n_candidates, max(MIN_ITERATIONS, round(fraction * n_candidates)))


def draw_iterations(candidates: Sequence[int], fraction: float, seed: int) -> list[int]:
    """Draw the iterations to audit at random from the candidates, and return them in increasing order."""
    n = count_audited(len(candidates), fraction)
    drawn = np.random.default_rng(seed).choice(np.asarray(candidates, np.int64), n, replace=False)
    return [int(t) for t in np.sort(drawn)]


def compare_parts(coarse: Floats, half_way: Floats, fine: Floats) -> dict[str, float]:
    """Compute the audit figures of one iteration, under the names of the fields of `Audit`.

    `coarse`, `half_way` and `fine` are A_n, A_2n and A_4n of the iteration, each of shape (K,). All figures are 0 if
    A_4n is 0 for every parameter, as in an iteration that moved no parameter.
    """
    size, moved = np.abs(fine).sum(), fine != 0
    return {
        "part_error": float(np.abs(coarse - fine).sum() / size) if size else 0.0,
        "half_way": float(np.abs(half_way - fine).sum() / size) if size else 0.0,
        "sign_change": float((np.sign(coarse) != np.sign(fine))[moved].mean()) if moved.any() else 0.0,
        "helping_shift": percentage_helping(coarse) - percentage_helping(fine) if moved.any() else 0.0,
    }


def percentage_helping(allocation: Floats) -> float:
    """Return the percentage of parameters with negative LCA among those with non-zero LCA.

    Returns 50, the percentage expected by chance, if the LCA of every parameter is zero.
    """
    n_helping, n_hurting = int((allocation < 0).sum()), int((allocation > 0).sum())
    return 100 * n_helping / (n_helping + n_hurting) if n_helping + n_hurting else 50.0


def mean_with_confidence(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the values and the half-width of its 95 % confidence interval (Student's t).

    The half-width is NaN if there are fewer than two values.
    """
    n = len(values)
    if n < 2:
        return float(np.mean(values)) if n else float("nan"), float("nan")
    half = scipy.special.stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)
    return float(np.mean(values)), float(half)
