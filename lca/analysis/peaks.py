"""The deepest minima of time series, called peaks, and the number of peaks that coincide by chance.

Coincidences are counted in two ways: iterations in which all layers have a peak, and peaks that two layers share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray

N_PEAKS = 20  # number of peaks of each layer that are used

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def find_deepest_minima(values: Floats, n: int = N_PEAKS) -> Counts:
    """Find the n deepest local minima of each series of `values`, shape (T, …), deepest first.

    A local minimum is lower than both of its neighbors, so the ends of a series and the neighbors of NaN are never
    minima. Returns the iterations, shape (…, n), padded with −1.
    """
    peaks = Peaks(values.shape[1:], n)
    peaks.add(0, values)
    return peaks.iterations


class Peaks:
    """Collects the deepest minima of time series whose values are added piece by piece, in chronological order.

    `shape` is the shape of the values of one iteration. `iterations` has shape (*shape, n), padded with −1.
    """

    def __init__(self, shape: tuple[int, ...], n: int = N_PEAKS) -> None:
        self.iterations = np.full((*shape, n), -1)
        self._depths = np.full((*shape, n), np.inf)
        self._last = np.full((0, *shape), np.nan)

    def add(self, begin: int, values: Floats) -> None:
        """Add the values of successive iterations, starting with `begin`. `values` has shape (t, …)."""
        values = np.concatenate([self._last, values])
        begin -= len(self._last)
        self._last = values[-2:]
        inner = values[1:-1]
        lower = (inner < values[:-2]) & (inner < values[2:])
        depths = np.moveaxis(np.where(lower, inner, np.inf), 0, -1)
        there = np.broadcast_to(np.arange(begin + 1, begin + 1 + len(inner)), depths.shape)
        depths = np.concatenate([self._depths, depths], axis=-1)
        there = np.concatenate(
            [self.iterations, np.where(np.isinf(depths[..., self._depths.shape[-1] :]), -1, there)], -1
        )
        order = np.argsort(depths, axis=-1, kind="stable")[..., : self._depths.shape[-1]]
        self._depths = np.take_along_axis(depths, order, -1)
        self.iterations = np.take_along_axis(there, order, -1)


def find_synchronized(peaks: Counts) -> list[int]:
    """Return the iterations that are peaks of every layer, ascending. `peaks` has shape (layers, n)."""
    common = set.intersection(*({*row.tolist()} for row in peaks)) - {-1}
    return sorted(common)


def draw_baseline(peaks: Counts, shifts: Sequence[int], repeats: int, seed: int) -> Counts:
    """Count the peaks that all layers share after random shifts in time. `peaks` has shape (classes, layers, n).

    In each repeat, every layer of every class is shifted by a random element of `shifts`. The layers of a class are
    never all shifted by the same amount, because that would reproduce the count that the baseline is compared with.
    Returns the counts summed over classes, shape (repeats,).

    A peak of the first layer is shared if every other layer has a peak at a distance equal to the difference between
    the two layers' shifts.
    """
    draws = _draw_shifts(shifts, (repeats, *peaks.shape[:2]), seed)
    counts = np.zeros(repeats, np.int64)
    differences = np.unique(np.subtract.outer(shifts, shifts))
    for c, layers in enumerate(peaks):
        first = layers[0][layers[0] >= 0]
        shared = np.ones((repeats, len(first)), bool)
        for i, other in enumerate(layers[1:], start=1):
            # Row d marks the peaks of the first layer that meet a peak of this layer if the shifts differ by
            # differences[d].
            meets = np.isin(first + differences[:, None], other[other >= 0])
            by = np.searchsorted(differences, draws[:, c, 0] - draws[:, c, i])
            shared &= meets[by]
        counts += shared.sum(axis=1)
    return counts


def count_pairs(peaks: Counts) -> int:
    """Count the peaks that two layers share, summed over all pairs of layers. `peaks` has shape (layers, n).

    If m_t layers have a peak in iteration t, this is Σ_t m_t (m_t − 1) / 2.
    """
    _, m = np.unique(peaks[peaks >= 0], return_counts=True)
    return int((m * (m - 1) // 2).sum())


def draw_pair_baseline(peaks: Counts, shifts: Sequence[int], repeats: int, seed: int) -> Counts:
    """Count the peaks that pairs of layers share after the random shifts of `draw_baseline`.

    Returns the counts summed over pairs and classes, shape (repeats,). A shift of layer a by s_a and of layer b by s_b
    makes a peak of layer a at t coincide with a peak of layer b at t + s_a − s_b.
    """
    draws = _draw_shifts(shifts, (repeats, *peaks.shape[:2]), seed)
    counts = np.zeros(repeats, np.int64)
    differences = np.unique(np.subtract.outer(shifts, shifts))
    reach = int(np.abs(differences).max())
    for c, layers in enumerate(peaks):
        # Row a of `marks` is 1 at the peaks of layer a, with a margin for the shifts at both ends.
        marks = np.zeros((len(layers), peaks.max(initial=0) + 1 + 2 * reach))
        layer, rank = np.nonzero(layers >= 0)
        marks[layer, layers[layer, rank] + reach] = 1
        meetings = np.array([marks @ np.roll(marks, -d, axis=1).T for d in differences]).astype(np.int64)
        for a, b in combinations(range(len(layers)), 2):
            by = np.searchsorted(differences, draws[:, c, a] - draws[:, c, b])
            counts += meetings[by, a, b]
    return counts


def _draw_shifts(shifts: Sequence[int], shape: tuple[int, ...], seed: int) -> Counts:
    """Return an array of the given shape with random elements of `shifts`. The last axis is the layers.

    The layers are never all shifted by the same amount, unless there is only one layer or only one shift.
    """
    rng = np.random.default_rng(seed)
    draws = rng.choice(np.asarray(shifts), shape)
    while shape[-1] > 1 and len(set(shifts)) > 1 and (equal := (draws == draws[..., :1]).all(axis=-1)).any():
        draws[equal] = rng.choice(np.asarray(shifts), (int(equal.sum()), shape[-1]))
    return draws


def compute_p(observed: int, baseline: Counts | Floats) -> float:
    """Return the one-sided p-value of an observed count. It is never 0.     [Phipson and Smyth 2010]

    `baseline` contains the counts after random shifts.
    """
    return float((1 + np.sum(baseline >= observed)) / (1 + len(baseline)))


@dataclass(frozen=True)
class Coincidences:
    """The number of coincident peaks in each run, its baseline, and the p-value of the sum over runs."""

    observed: list[float]
    chance: list[Floats]
    p: float

    @classmethod
    def add_runs(cls, observed: Sequence[int], baselines: Sequence[Counts]) -> Self:
        """Combine the counts of several runs."""
        # The runs may have the same random shifts, so each baseline is permuted before the sum is taken.
        permuted = [np.random.default_rng(i).permutation(baseline) for i, baseline in enumerate(baselines)]
        p = compute_p(sum(observed), np.sum(permuted, axis=0))
        return cls([float(n) for n in observed], [baseline.astype(np.float64) for baseline in baselines], p)

    def __truediv__(self, n: int) -> Self:
        """Divide the counts by the number of classes or of pairs of layers. The p-value remains the same."""
        return replace(self, observed=[m / n for m in self.observed], chance=[b / n for b in self.chance])
