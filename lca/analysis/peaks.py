"""Peaks of series, and how many of them coincide by chance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_PEAKS = 20

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def find_deepest_minima(values: Floats, n: int = N_PEAKS) -> Counts:
    """values (T, …) -> (…, n), where the series has its deepest local minima, deepest first; −1 where it has fewer.

    A minimum is lower than both neighbours; beside a NaN there is none, nor at the ends.
    """
    peaks = Peaks(values.shape[1:], n)
    peaks.add(0, values)
    return peaks.iterations


class Peaks:
    """The deepest minima of series that are added in stretches, in order of time."""

    def __init__(self, shape: tuple[int, ...], n: int = N_PEAKS) -> None:
        self.iterations = np.full((*shape, n), -1)
        self._depths = np.full((*shape, n), np.inf)
        self._last = np.full((0, *shape), np.nan)

    def add(self, begin: int, values: Floats) -> None:
        """Add values (t, …) of the iterations from begin on."""
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


def find_synchronised(peaks: Counts) -> list[int]:
    """peaks (layer, n) -> the iterations that are among the peaks of every layer, ascending."""
    common = set.intersection(*({*row.tolist()} for row in peaks)) - {-1}
    return sorted(common)


def draw_baseline(peaks: Counts, shifts: Sequence[int], repeats: int, seed: int) -> Counts:
    """How many iterations all layers share by chance: peaks (class, layer, n) -> (repeat,), in all classes together.

    In each repeat, each layer in each class is shifted by one of `shifts`, drawn at random.

    An iteration is shared if every layer has, for the first layer's peak at it, one at the difference of their shifts.
    """
    draws = np.random.default_rng(seed).choice(np.asarray(shifts), (repeats, *peaks.shape[:2]))
    counts = np.zeros(repeats, np.int64)
    differences = np.unique(np.subtract.outer(shifts, shifts))
    for c, layers in enumerate(peaks):
        first = layers[0][layers[0] >= 0]
        shared = np.ones((repeats, len(first)), bool)
        for i, other in enumerate(layers[1:], start=1):
            # by the difference of the shifts, whether each peak of the first layer meets one of this layer
            meets = np.isin(first + differences[:, None], other[other >= 0])
            by = np.searchsorted(differences, draws[:, c, 0] - draws[:, c, i])
            shared &= meets[by]
        counts += shared.sum(axis=1)
    return counts


def compute_p(observed: int, baseline: Counts | Floats) -> float:
    """The one-sided p-value, how probable at least as many are by chance; never 0     [Phipson and Smyth 2010]"""
    return float((1 + np.sum(baseline >= observed)) / (1 + len(baseline)))
