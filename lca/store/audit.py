"""How good are the parts? A sample of iterations is integrated again, finer, and compared part by part.

The residual of the sum does not tell: errors of the parts cancel in it. The difference to a rule with four times the
subintervals does, because its own error is far smaller; the one with twice as many shows that it is.
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
    """Each figure is one number per audited iteration.

    part_error: Σ|A_n − A_4n| / Σ|A_4n|. half_way: the same of A_2n. sign_change: the part of the parameters with
    A_4n ≠ 0 whose sign is another in A_n. helping_shift: the percentage helping by A_n less that by A_4n, in points.
    """

    iterations: list[int]
    part_error: list[float]
    half_way: list[float]
    sign_change: list[float]
    helping_shift: list[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def count_audited(n_candidates: int, fraction: float) -> int:
    """How many iterations to audit: a fraction of the candidates, at least five or all there are."""
    return min(n_candidates, max(MIN_ITERATIONS, round(fraction * n_candidates)))


def draw_iterations(candidates: Sequence[int], fraction: float, seed: int) -> list[int]:
    """Which iterations to audit, in order."""
    wanted = count_audited(len(candidates), fraction)
    drawn = np.random.default_rng(seed).choice(np.asarray(candidates, np.int64), wanted, replace=False)
    return [int(t) for t in np.sort(drawn)]


def compare_parts(coarse: Floats, half_way: Floats, fine: Floats) -> dict[str, float]:
    """The figures of one iteration, from A_n, A_2n and A_4n, (K,) each; 0 where nothing moved."""
    size, moved = np.abs(fine).sum(), fine != 0
    return {
        "part_error": float(np.abs(coarse - fine).sum() / size) if size else 0.0,
        "half_way": float(np.abs(half_way - fine).sum() / size) if size else 0.0,
        "sign_change": float((np.sign(coarse) != np.sign(fine))[moved].mean()) if moved.any() else 0.0,
        "helping_shift": percentage_helping(coarse) - percentage_helping(fine) if moved.any() else 0.0,
    }


def percentage_helping(allocation: Floats) -> float:
    """Of the parameters with non-zero LCA; 50 where there is none, as chance would have it."""
    helped, hurt = int((allocation < 0).sum()), int((allocation > 0).sum())
    return 100 * helped / (helped + hurt) if helped + hurt else 50.0


def mean_with_confidence(values: Sequence[float]) -> tuple[float, float]:
    """The mean over audited iterations and the half-width of its 95 % confidence interval (Student's t)."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)) if n else float("nan"), float("nan")
    half = scipy.special.stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)
    return float(np.mean(values)), float(half)
