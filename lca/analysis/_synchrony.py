"""Do the layers learn in the same iterations?     [arXiv 1909.01440, section 5, figures 6, S16 to S19]

A moment of learning is an iteration with a lower LCA than the one before and the one after; the 20 deepest of each
layer are used. An iteration is synchronised if it is among those of every layer. The baseline is the number that remain
synchronised if each layer is shifted in time, at random, by an iteration or two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.peaks import N_PEAKS, Peaks, compute_p, draw_baseline, find_deepest_minima, find_synchronised
from lca.analysis.question import Result, question
from lca.errors import Argument, LCAError, UsageError
from lca.store.allocation import Allocation
from lca.store.run import Run

SHIFTS = (-2, -1, 0, 1, 2)
REPEATS = 1_000

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """The peaks of one quantity.

    peaks: (class, layer, 20), the iterations of the deepest minima, deepest first; −1 where there are fewer.
    synchronised: for each class, the iterations that are among the peaks of every layer. baseline: (repeat,), how many
    there are by chance, in all classes together.
    """

    peaks: Counts
    synchronised: list[list[int]]
    baseline: Counts

    @property
    def n(self) -> int:
        """The number of synchronised iterations, in all classes together."""
        return sum(map(len, self.synchronised))


@dataclass(frozen=True, repr=False)
class Synchrony(Result):
    """The peaks of each layer, and the iterations that all layers share.

    series: by name: "LCA", "gradient norm" and "motion", whose peaks are maxima; if requested, "LCA by class".
    layers: their names. still: those that are left out because they never have a peak, such as frozen ones.
    classes: the names of the classes. shifts, seed: of the baseline.
    """

    series: dict[str, Series]
    layers: list[str]
    still: list[str]
    classes: list[str]
    shifts: tuple[int, ...]
    seed: int
    iterations: Iterations

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Synchronised iterations beside those by chance, over runs; the p-value is that of the sum over the runs."""
        first = results[0]
        arrays = {
            "peaks": [
                {what: {"peaks": s.peaks.tolist(), "synchronised": s.synchronised} for what, s in result.series.items()}
                for result in results
            ],
            "layers": first.layers,
            "classes": first.classes,
        }
        iterations = [result.iterations for result in results]
        return Answer("synchrony", [_tabulate_series(results)], iterations, _describe(results), arrays)


@question
def synchrony(
    run: Run,
    *,
    name: str = "train",
    unconverged: bool = False,
    by_class: bool = False,
    shifts: Sequence[int] = SHIFTS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Synchrony:
    """Do the layers learn in the same iterations?     [arXiv 1909.01440, section 5, figures 6, S16 to S19]

    Finds the peaks of the LCA of each layer and, as controls, those of the norms of gradient and motion. The gradient
    is the one at the start of an iteration; the norm of a layer is taken over all its tensors.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about.
        unconverged: Whether iterations that did not converge count too.
        by_class: Whether to find the peaks of the LCA of each class too, which the allocation must hold.
        shifts: The shifts, in iterations, from which those of the baseline are drawn.
        repeats: The number of draws.
        seed: The seed of the draws.

    Returns:
        The 20 deepest peaks of each layer, the iterations that all layers share, and how many they share by chance.

    Raises:
        LCAError: If the run has no such allocation, or no three successive iterations of it count.
        UsageError: If there are fewer than two repeats, or no shifts.

    Example:
        >>> lca.analysis.synchrony("run.zarr", by_class=True).series["LCA"].synchronised
    """
    if repeats < 2 or not shifts:
        expected, found = "at least two repeats and one shift", f"{repeats} and {list(shifts)}"
        raise UsageError("repeats and shifts", expected=expected, found=found)
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation, unconverged)
    if not np.any(chosen.counted[:-2] & chosen.counted[1:-1] & chosen.counted[2:]):
        remedy = (
            *("Allocate every iteration of a longer run, ", allocation.remake()),
            *(", or pass ", Argument("unconverged", True), "."),
        )
        raise LCAError(f"no three successive iterations of {allocation.path} count, so there is no peak", remedy=remedy)
    peaks, moving = _find_peaks(allocation, chosen, by_class)
    layers = run.parameters.layers
    series = {
        what: Series(at, [find_synchronised(of_class) for of_class in at], draw_baseline(at, shifts, repeats, seed))
        for what, at in peaks.items()
    }
    return Synchrony(
        series=series,
        layers=[layer for layer, moves in zip(layers, moving, strict=True) if moves],
        still=[layer for layer, moves in zip(layers, moving, strict=True) if not moves],
        classes=allocation.classes,
        shifts=tuple(shifts),
        seed=seed,
        iterations=chosen,
    )


def _find_peaks(
    allocation: Allocation, chosen: Iterations, by_class: bool
) -> tuple[dict[str, Counts], NDArray[np.bool_]]:
    """The peaks (class, layer, 20) of each quantity, of the layers that ever move; and which these are, (layer,)."""
    table, counted = allocation.parameters, chosen.counted[:, None]

    def find_maxima_of_norm(array: str) -> Counts:
        squares = table.sum_by_layer(allocation.read(array)[: len(counted)] ** 2)
        return find_deepest_minima(-np.sqrt(np.where(counted, squares, np.nan)))

    of_lca = find_deepest_minima(np.where(counted, table.sum_by_layer(allocation.read("tensor_lca")), np.nan))
    moving = np.asarray((of_lca >= 0).any(axis=1))
    if not moving.any():
        raise LCAError(
            f"no layer has a moment of learning in {allocation.path}, because its LCA never has a minimum",
            remedy="Ask about a longer run.",
        )
    peaks = {
        "LCA": of_lca[None, moving],
        "gradient norm": find_maxima_of_norm("gradient_norm")[None, moving],
        "motion": find_maxima_of_norm("motion_norm")[None, moving],
    }
    if by_class:
        peaks["LCA by class"] = _find_peaks_by_class(allocation, chosen)[:, moving]
    return peaks, moving


def _find_peaks_by_class(allocation: Allocation, chosen: Iterations) -> Counts:
    """(class, layer, 20), block by block, because classes × layers × iterations may be many."""
    table, array = allocation.parameters, allocation.class_lca
    peaks = Peaks((array.shape[1], len(table.layers)))
    for span in allocation.blocks_of_run:
        values = table.sum_by_layer(np.asarray(array[span]))
        peaks.add(span.start, np.where(chosen.counted[span, None, None], values, np.nan))
    return peaks.iterations


@dataclass(frozen=True)
class _Row:
    """A row of the table. observed: by run. chance: by run, (repeat,) each."""

    observed: list[float]
    chance: list[Floats]
    p: float


def _tabulate_series(results: Sequence[Synchrony]) -> Table:
    first = results[0]
    rows: dict[str, _Row] = {}
    for what in (what for what in first.series if all(what in result.series for result in results)):
        row = rows[what] = _add_runs([result.series[what] for result in results])
        if what == "LCA by class":
            n = len(first.classes)
            rows["the same, per class"] = _Row([m / n for m in row.observed], [b / n for b in row.chance], row.p)
    repeats = len(first.series["LCA"].baseline)

    def column(figure: Any, digits: int) -> Column:
        return Column(np.array([[figure(b) for b in row.chance] for row in rows.values()]).T, digits)

    def format_smallest(p: float) -> str:
        return f"< 1/{repeats + 1}" if p * (repeats + 1) < 1.5 else f"{p:.2g}"

    return Table(
        "peaks of",
        list(rows),
        {
            "synchronised": Column(np.array([row.observed for row in rows.values()]).T, 1),
            "by chance": column(np.mean, 2),
            "sd of chance": column(lambda b: np.std(b, ddof=1), 2),
            "p (one-sided)": Column.of([row.p for row in rows.values()], text=format_smallest),
        },
    )


def _add_runs(series: Sequence[Series]) -> _Row:
    """The figures of one quantity over runs; p is that of the sum over them."""
    observed, chance = [s.n for s in series], [s.baseline.astype(np.float64) for s in series]
    # The runs' draws may be the same, so each run's are permuted before they are added.
    permuted = [np.random.default_rng(i).permutation(baseline) for i, baseline in enumerate(chance)]
    return _Row([float(n) for n in observed], chance, compute_p(sum(observed), np.sum(permuted, axis=0)))


def _describe(results: Sequence[Synchrony]) -> list[str]:
    """What a synchronised iteration is and what chance means, and which layers are left out."""
    first = results[0]
    repeats, shifts = len(first.series["LCA"].baseline), ", ".join(f"{s:+d}" if s else "0" for s in first.shifts)
    note = (
        f"iterations that are among the {N_PEAKS} deepest peaks of every one of {len(first.layers)} layers; chance: "
        f"each layer shifted by one of {shifts}, {repeats:,} times"
    )
    still = list(dict.fromkeys(layer for result in results for layer in result.still))
    return [note, *([f"left out because they have no peak: {', '.join(still)}"] if still else [])]
