"""Do the layers learn in the same iterations?     [arXiv 1909.01440, section 5, figures 6, S16 to S19]

A moment of learning is an iteration with a lower LCA than the one before and the one after; of each layer the 20
deepest are taken. An iteration is synchronised if it is among those of every layer. By chance it would be so as often
as if each layer were shifted in time, at random, by an iteration or two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Column, Report, Table
from lca.analysis.iterations import Iterations, iterations
from lca.errors import LCAError, UsageError
from lca.store.allocation import Allocation
from lca.store.run import Run
from lca.store.summary import read

N_PEAKS = 20
SHIFTS = (-2, -1, 0, 1, 2)
REPEATS = 1_000

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """The peaks of one quantity. peaks: (class, layer, 20), the iterations of the deepest minima, deepest first; −1
    where there are fewer. synchronised: for each class the iterations that are among the peaks of every layer.
    baseline: (repeat,), how many there are by chance, in all classes together.
    """

    peaks: Counts
    synchronised: list[list[int]]
    baseline: Counts

    @property
    def n(self) -> int:
        """Synchronised iterations, in all classes together."""
        return sum(map(len, self.synchronised))


@dataclass(frozen=True)
class Synchrony:
    """series: by name: "LCA", "gradient norm" and "motion", whose peaks are maxima; where asked for "LCA by class".

    layers: their names. still: those that are left out, for they never have a peak, such as frozen ones.
    classes: what the classes are called. shifts, seed: of the baseline.
    """

    series: dict[str, Series]
    layers: list[str]
    still: list[str]
    classes: list[str]
    shifts: tuple[int, ...]
    seed: int
    iterations: Iterations


def deepest_minima(values: Floats, n: int = N_PEAKS) -> Counts:
    """values (T, …) -> (…, n), where the series has its deepest local minima, deepest first; −1 where it has fewer.

    A minimum is lower than both neighbours; beside a NaN there is none, nor at the ends.
    """
    peaks = Peaks(values.shape[1:], n)
    peaks.add(0, values)
    return peaks.iterations


class Peaks:
    """The deepest minima of series that come by in stretches, in order of time."""

    def __init__(self, shape: tuple[int, ...], n: int = N_PEAKS) -> None:
        self.iterations = np.full((*shape, n), -1)
        self._depths = np.full((*shape, n), np.inf)
        self._last = np.full((0, *shape), np.nan)

    def add(self, begin: int, values: Floats) -> None:
        """values (t, …), of the iterations from begin on."""
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


def synchronised(peaks: Counts) -> list[int]:
    """peaks (layer, n) -> the iterations that are among those of every layer, ascending."""
    common = set.intersection(*({*row.tolist()} for row in peaks)) - {-1}
    return sorted(common)


def shifted_baseline(peaks: Counts, shifts: Sequence[int], repeats: int, seed: int) -> Counts:
    """peaks (class, layer, n) -> (repeat,), how many iterations all layers share, in all classes together, when each
    layer in each class is shifted by one of `shifts`, drawn at random.

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


def p_value(observed: int, baseline: Counts | Floats) -> float:
    """One-sided: how likely chance is to give at least as many; never 0     [Phipson and Smyth 2010]"""
    return float((1 + np.sum(baseline >= observed)) / (1 + len(baseline)))


def synchrony(
    run: Run,
    name: str = "train",
    unconverged: bool = False,
    *,
    by_class: bool = False,
    shifts: Sequence[int] = SHIFTS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Synchrony:
    """Peaks and synchronised iterations of the LCA by layer and, as controls, of the norms of gradient and motion.

    by_class: of the LCA of each class as well, for which it has to be in the store.
    The gradient's is that of the iterate where an iteration starts; of a layer it is the norm over all its tensors.
    """
    if repeats < 2 or not shifts:
        raise UsageError(f"repeats is {repeats} and shifts {list(shifts)}; two repeats and one shift were wanted.")
    allocation, table = run.allocation(name), run.parameters
    chosen = iterations(allocation, unconverged)
    if not np.any(chosen.counted[:-2] & chosen.counted[1:-1] & chosen.counted[2:]):
        raise LCAError(
            f"no three successive iterations of {allocation.path} count, so that there is no peak. "
            f"Allocate all of a longer run, `{allocation.command()}`, or give --unconverged."
        )

    def of_norm(array: str) -> Floats:
        squares = table.sum_by_layer(read(allocation, array)[: len(chosen.counted)] ** 2)
        return -np.sqrt(np.where(chosen.counted[:, None], squares, np.nan))

    lca = np.where(chosen.counted[:, None], table.sum_by_layer(read(allocation, "tensor_lca")), np.nan)
    of_lca = deepest_minima(lca)
    moving = np.asarray((of_lca >= 0).any(axis=1))
    if not moving.any():
        raise LCAError(f"no layer has a moment of learning in {allocation.path}: the LCA never has a minimum.")
    peaks = {
        "LCA": of_lca[None, moving],
        "gradient norm": deepest_minima(of_norm("gradient_norm"))[None, moving],
        "motion": deepest_minima(of_norm("motion_norm"))[None, moving],
    }
    if by_class:
        peaks["LCA by class"] = _peaks_by_class(allocation, chosen)[:, moving]
    series = {
        what: Series(at, [synchronised(of_class) for of_class in at], shifted_baseline(at, shifts, repeats, seed))
        for what, at in peaks.items()
    }
    return Synchrony(
        series=series,
        layers=[layer for layer, moves in zip(table.layers, moving, strict=True) if moves],
        still=[layer for layer, moves in zip(table.layers, moving, strict=True) if not moves],
        classes=allocation.classes,
        shifts=tuple(shifts),
        seed=seed,
        iterations=chosen,
    )


def _peaks_by_class(allocation: Allocation, chosen: Iterations) -> Counts:
    """(class, layer, 20), block by block: classes by layers by iterations may be many."""
    table, array = allocation.run.parameters, allocation.class_lca
    peaks = Peaks((array.shape[1], len(table.layers)))
    for span in allocation.iteration_blocks:
        values = table.sum_by_layer(np.asarray(array[span]))
        peaks.add(span.start, np.where(chosen.counted[span, None, None], values, np.nan))
    return peaks.iterations


def report(results: Sequence[Synchrony]) -> Report:
    """Synchronised iterations beside those by chance, over runs; the p-value is that of the sum over the runs."""
    first = results[0]
    rows: dict[str, tuple[list[float], list[Floats], float]] = {}
    for what in (what for what in first.series if all(what in result.series for result in results)):
        series = [result.series[what] for result in results]
        observed, chance = [s.n for s in series], [s.baseline.astype(np.float64) for s in series]
        # Their draws may be the same, so that one run's are put in another order before they are added.
        apart = [np.random.default_rng(i).permutation(baseline) for i, baseline in enumerate(chance)]
        p = p_value(sum(observed), np.sum(apart, axis=0))
        rows[what] = [float(n) for n in observed], chance, p
        if what == "LCA by class":
            n = len(first.classes)
            rows["the same, a class"] = [m / n for m in observed], [b / n for b in chance], p
    repeats = len(first.series["LCA"].baseline)

    def text(p: float) -> str:
        return f"< 1/{repeats + 1}" if p * (repeats + 1) < 1.5 else f"{p:.2g}"

    table = Table(
        "peaks of",
        list(rows),
        {
            "synchronised": Column(np.array([observed for observed, _, _ in rows.values()]).T, 1),
            "by chance": Column(np.array([[b.mean() for b in chance] for _, chance, _ in rows.values()]).T, 2),
            "sd of chance": Column(np.array([[b.std(ddof=1) for b in chance] for _, chance, _ in rows.values()]).T, 2),
            "p (one-sided)": Column.of([p for _, _, p in rows.values()], text=text),
        },
    )
    note = (
        f"iterations that are among the {N_PEAKS} deepest peaks of every one of {len(first.layers)} layers; chance: "
        f"each shifted by one of {', '.join(f'{s:+d}' if s else '0' for s in first.shifts)}, {repeats:,} times"
    )
    still = list(dict.fromkeys(layer for result in results for layer in result.still))
    notes = [note, *([f"left out, for they have no peak: {', '.join(still)}"] if still else [])]
    arrays = {
        "peaks": [
            {what: {"peaks": s.peaks.tolist(), "synchronised": s.synchronised} for what, s in result.series.items()}
            for result in results
        ],
        "layers": first.layers,
        "classes": first.classes,
    }
    return Report("synchrony", [table], [result.iterations for result in results], notes, arrays)
