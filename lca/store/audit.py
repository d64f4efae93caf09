"""The audit: how accurate the LCA of individual parameters is, measured on a sample of iterations.

The residual cannot show this, because errors of individual parameters cancel in the sum. The audit therefore integrates
some iterations again with four times as many subintervals (the reference) and compares the results parameter by
parameter. A third integration with twice as many subintervals shows how far the reference itself can be trusted.

For every iteration, the difference from the next coarser rule estimates the error of the parts at no cost. The audit
calibrates this estimate: the mean error over all iterations follows from the mean estimate over all iterations and from
the ratio of error to estimate in the audited ones, a ratio estimator [Cochran, Sampling Techniques, 1977, chapter 6].
The iterations are drawn from strata with about equal sums of the estimate, because a few iterations often account for
most of the error.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_DRAWN = 20  # smallest number of iterations drawn, if there are at least 200
N_LARGEST = 3  # number of iterations of each level that are audited because their estimates are the largest
MAX_UNCONVERGED = 5  # largest number of iterations that are audited because they did not converge
LEVELS = (1, 2, 4)  # numbers of subintervals that are calibrated separately; 4 stands for 4 and more
MIN_PER_LEVEL = 4  # smallest number of iterations drawn from a level, if it has enough
CHOSEN = -1  # stratum of the iterations that are audited without being drawn
PROPORTIONAL = ("part_error", "half_way")  # the figures that are roughly proportional to the estimate


class Interval(NamedTuple):
    """An estimate of a mean and the half-width of its 95 % confidence interval, NaN if it cannot be estimated."""

    mean: float
    half: float

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval."""
        return self.mean - self.half, self.mean + self.half


@dataclass(frozen=True)
class Stratum:
    """A stratum from which audited iterations are drawn.

    Attributes:
        size: Number of its iterations.
        estimate: Sum of their part estimates.
        level: Number of subintervals of its iterations: 1, 2, or 4 for 4 and more. The ratio of error to estimate is
            calibrated separately for each level.
    """

    size: int
    estimate: float
    level: int


@dataclass(frozen=True)
class Audit:
    """The measured error of an allocation, with one value per audited iteration.

    A_n is the LCA of the allocation, from n subintervals. A_2n and A_4n are the LCA from twice and four times as many
    subintervals.

    Attributes:
        iterations: Audited iterations, in increasing order.
        part_error: Error of the parts relative to the reference, Σ|A_n − A_4n| / Σ|A_4n|.
        half_way: Error that the reference would have with half its subintervals, Σ|A_2n − A_4n| / Σ|A_4n|.
        sign_change: Fraction of the parameters with A_4n ≠ 0 whose sign differs between A_n and A_4n.
        helping_shift: Percentage of parameters that help according to A_n minus that according to A_4n, in percentage
            points.
        estimate: Part estimate of each audited iteration.
        stratum: Index of the stratum of each audited iteration. −1 for those that were chosen because their estimate is
            among the largest, because they have the most subintervals, or because they did not converge.
        strata: The strata. Together with the chosen iterations, they make up all allocated iterations.
    """

    iterations: list[int]
    part_error: list[float]
    half_way: list[float]
    sign_change: list[float]
    helping_shift: list[float]
    estimate: list[float]
    stratum: list[int]
    strata: list[Stratum]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Audit":
        """Create an audit from the dictionary that `to_json` returned."""
        return cls(**{**values, "strata": [Stratum(**stratum) for stratum in values["strata"]]})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)

    @property
    def chosen(self) -> list[int]:
        """The audited iterations that were not drawn at random."""
        return [t for t, h in zip(self.iterations, self.stratum, strict=True) if h == CHOSEN]

    @property
    def n_iterations(self) -> int:
        """The number of iterations that the means are taken over."""
        return len(self.chosen) + sum(stratum.size for stratum in self.strata)

    def mean(self, figure: str = "part_error") -> Interval:
        """Estimate the mean of a figure over all allocated iterations.

        Args:
            figure: Name of a field with one value per audited iteration.

        Returns:
            The mean and the half-width of its 95 % confidence interval, in the unit of the field.
        """
        y, x, stratum = (np.asarray(values) for values in (getattr(self, figure), self.estimate, self.stratum))
        total, variances = float(y[stratum == CHOSEN].sum()), []
        for level in LEVELS:
            drawn = [(s, stratum == h) for h, s in enumerate(self.strata) if s.level == level]
            if not drawn:
                continue
            sum_y, sum_x, size = np.sum(
                [[s.size * y[at].mean(), s.size * x[at].mean(), s.size] for s, at in drawn], axis=0
            )
            proportional = figure in PROPORTIONAL and sum_x > 0
            model = sum_y / sum_x * x if proportional else np.full(len(y), sum_y / size)
            total += sum_y / sum_x * sum(s.estimate for s, _ in drawn) if proportional else sum_y
            scale = x if proportional else np.ones(len(x))
            variances += _variances_of_totals(y - model, scale, [(s.size, at) for s, at in drawn])
        return Interval(total / self.n_iterations, _half_width(variances) / self.n_iterations)


def _variances_of_totals(
    residual: Floats, scale: Floats, strata: Sequence[tuple[int, NDArray[np.bool_]]]
) -> list[tuple[float, int]]:
    """Return the variance of the estimated total of each stratum, and its degrees of freedom.

    The variance within a stratum is that of its few drawn iterations, or that of the drawn iterations of all strata
    relative to their `scale`, whichever is larger: two similar draws say little about a skewed distribution.
    """
    at_all = np.any([at for _, at in strata], axis=0) & (scale > 0)
    pooled = float(np.mean((residual[at_all] / scale[at_all]) ** 2)) if at_all.any() else 0.0
    variances = []
    for size, at in strata:
        n = int(at.sum())
        own = float(residual[at].var(ddof=1)) if n > 1 else float("nan")
        common = pooled * float(np.mean(scale[at] ** 2))
        within, degrees = (common, int(at_all.sum()) - 1) if common > own else (own, n - 1)
        variances.append((size * (size - n) * within / n, degrees) if n < size else (0.0, 1))
    return variances


def _half_width(variances: Sequence[tuple[float, int]]) -> float:
    """Return the half-width of the 95 % interval of a sum of independent totals, by Student's t.

    The degrees of freedom follow from Satterthwaite's approximation.
    """
    variance = sum(v for v, _ in variances)
    if not variance > 0:
        return variance
    degrees = variance**2 / sum(v**2 / n for v, n in variances if v)
    return float(scipy.special.stdtrit(max(degrees, 1.0), 0.975) * np.sqrt(variance))


class Sample(NamedTuple):
    """The iterations to audit, in increasing order, the stratum of each, and the strata (see `Audit`)."""

    iterations: list[int]
    stratum: list[int]
    strata: list[Stratum]


def count_drawn(n_candidates: int, fraction: float) -> int:
    """Return the number of iterations to draw: a fraction of the candidates, but at least 20 if there are 200 or more.

    Of fewer than 200 candidates, at least a tenth are drawn, and at least two. The minimum is lower because auditing an
    iteration costs as much as allocating several.
    """
    at_least = min(MIN_DRAWN, max(2, n_candidates // 10))
    return min(n_candidates, max(at_least, round(fraction * n_candidates)))


def count_audited(n_candidates: int, fraction: float) -> int:
    """Return the number of iterations to audit, drawn or chosen, if all converge without refinement."""
    drawn = count_drawn(n_candidates, fraction) if fraction else 0
    return min(n_candidates, drawn + N_LARGEST) if drawn else 0


def draw_iterations(
    candidates: NDArray[np.int64],
    estimate: Floats,
    intervals: NDArray[np.int16],
    unconverged: NDArray[np.bool_],
    fraction: float,
    seed: int,
) -> Sample:
    """Choose and draw the iterations to audit.

    The iterations that are chosen are the three with the largest estimates of each level, the one with the most
    subintervals if it was refined, and up to five that did not converge. From the others, a random sample is drawn: at
    least two iterations from each stratum, or its only one. If all iterations are to be audited, all of them are drawn
    and none are chosen.

    Args:
        candidates: The allocated iterations, shape (n,). The next three arrays describe them.
        estimate: Part estimates, shape (n,).
        intervals: Numbers of subintervals, shape (n,).
        unconverged: Mask of the iterations that did not converge, shape (n,).
        fraction: Fraction of the candidates to draw.
        seed: Random seed.
    """
    rng, n_drawn = np.random.default_rng(seed), count_drawn(len(candidates), fraction)
    rank = np.where(np.isfinite(estimate), estimate, 0.0)
    chosen = _choose(rank, intervals, unconverged) if n_drawn < len(candidates) else np.empty(0, np.int64)
    stratum_of = dict.fromkeys(chosen.tolist(), CHOSEN)
    strata: list[Stratum] = []
    rest = np.setdiff1d(np.arange(len(candidates)), chosen)
    levels = np.minimum(intervals, LEVELS[-1])
    for level in LEVELS:
        members = rest[levels[rest] == level]
        share = round(n_drawn * len(members) / max(len(rest), 1))
        for stratum, n in _stratify(members, rank, max(share, min(MIN_PER_LEVEL, n_drawn))):
            drawn = rng.choice(stratum, n, replace=False)
            stratum_of |= dict.fromkeys(drawn.tolist(), len(strata))
            strata.append(Stratum(len(stratum), float(rank[stratum].sum()), level))
    order = sorted(stratum_of)
    return Sample([int(candidates[i]) for i in order], [stratum_of[i] for i in order], strata)


def _choose(rank: Floats, intervals: NDArray[np.int16], unconverged: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the positions of the iterations that are audited regardless of the draw."""
    order = np.argsort(rank, kind="stable")
    levels = np.minimum(intervals, LEVELS[-1])
    largest = [order[levels[order] == level][-N_LARGEST:] for level in LEVELS]
    most_refined = np.lexsort((rank, intervals))[-1:] if intervals.max() > max(intervals.min(), 2) else order[:0]
    return np.unique(np.concatenate([*largest, most_refined, order[unconverged[order]][-MAX_UNCONVERGED:]]))


def _stratify(members: NDArray[np.int64], rank: Floats, n_drawn: int) -> list[tuple[NDArray[np.int64], int]]:
    """Divide iterations into strata with about equal sums of `rank`, and return each with the number to draw from it.

    At least two are drawn from each stratum that has two, and more if that is needed to draw `n_drawn` in total.
    """
    if not len(members):
        return []
    order = members[np.argsort(rank[members], kind="stable")]
    sizes = rank[order] if rank[order].any() else np.ones(len(order))
    middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    at = np.minimum((max(n_drawn // 2, 1) * middle).astype(int), max(n_drawn // 2, 1) - 1)
    strata = [order[at == h] for h in np.unique(at)]
    counts = [min(len(stratum), 2) for stratum in strata]
    while sum(counts) < min(n_drawn, len(members)):
        open_strata = [h for h, stratum in enumerate(strata) if counts[h] < len(stratum)]
        counts[min(open_strata, key=lambda h: counts[h])] += 1
    return list(zip(strata, counts, strict=True))


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
