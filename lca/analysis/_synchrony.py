"""Do the layers learn in the same iterations?     [arXiv 1909.01440, section 5, figures 6, S16 to S19]

A moment of learning, or peak, is an iteration whose LCA is lower than in the previous and in the next iteration. Only
the 20 peaks of each layer with the lowest LCA are used. An iteration is synchronized if it is a peak of every layer.

With many layers, hardly any iteration is a peak of all of them, whether the layers are synchronized or not. Therefore,
the peaks that two layers share are counted too, and summed over all pairs of layers. With two layers, both counts are
the same.

The baseline of both counts is their value after shifting the layers relative to each other at random, by at most two
iterations each by default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.peaks import (
    N_PEAKS,
    Coincidences,
    Peaks,
    count_pairs,
    draw_baseline,
    draw_pair_baseline,
    find_deepest_minima,
    find_synchronized,
)
from lca.analysis.question import Result, question
from lca.errors import LCAError, UsageError
from lca.store.allocation import Allocation
from lca.store.run import Run

SHIFTS = (-2, -1, 0, 1, 2)  # shifts of a layer, in iterations, from which the baseline is drawn
REPEATS = 1_000  # number of random shifts

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """The peaks of one quantity, such as LCA, and the peaks that all layers share.

    Attributes:
        peaks: Iterations of the strongest peaks, strongest first, padded with −1, shape (classes, layers, 20). There is
            one class unless the quantity is LCA by class.
        synchronized: For each class, the iterations that are among the peaks of every layer.
        baseline: Number of synchronized iterations, summed over classes, after each random shift, shape (repeats,).
        pair_baseline: Number of peaks that two layers share, summed over pairs of layers and classes, after each of
            these shifts, shape (repeats,).
    """

    peaks: Counts
    synchronized: list[list[int]]
    baseline: Counts
    pair_baseline: Counts

    @property
    def n(self) -> int:
        """The number of synchronized iterations, summed over classes."""
        return sum(map(len, self.synchronized))

    @property
    def n_in_pairs(self) -> int:
        """The number of peaks that two layers share, summed over pairs of layers and classes."""
        return sum(map(count_pairs, self.peaks))

    @property
    def n_pairs(self) -> int:
        """The number of pairs of layers, summed over classes."""
        n_classes, n_layers = map(int, self.peaks.shape[:2])
        return n_classes * comb(n_layers, 2)


@dataclass(frozen=True, repr=False)
class Synchrony(Result):
    """The peaks of each layer, and the iterations in which all layers have a peak.

    Attributes:
        series: Peaks by quantity: minima of "LCA", maxima of "gradient norm" and "motion" and, if requested, minima of
            "LCA by class".
        layers: Names of the layers that have peaks.
        still: Names of the layers that are excluded because they have no peak, such as frozen layers.
        classes: Names of the classes.
        shifts: Shifts in time, in iterations, from which the baseline is drawn.
        seed: Random seed with which the shifts of the baseline were drawn.
        iterations: The iterations that were used.
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
        """Show the numbers of synchronized iterations and of shared peaks, and both numbers expected by chance.

        The p-values are for the sums over all runs.
        """
        first = results[0]

        def describe(series: Series) -> dict[str, Any]:
            return {"peaks": series.peaks, "synchronized": series.synchronized, "shared by pairs": series.n_in_pairs}

        arrays = {
            "peaks": [{what: describe(series) for what, series in result.series.items()} for result in results],
            "layers": first.layers,
            "classes": first.classes,
        }
        iterations = [result.iterations for result in results]
        tables = [_tabulate_all_layers(results), *([_tabulate_pairs(results)] if len(first.layers) > 1 else [])]
        return Answer("synchrony", tables, iterations, _describe(results), arrays)


@question
def synchrony(
    run: Run,
    *,
    name: str = "train",
    by_class: bool = False,
    shifts: Sequence[int] = SHIFTS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Synchrony:
    """Find the iterations in which all layers learn at once.

    Source: arXiv 1909.01440, section 5, figures 6 and S16 to S19.

    This finds the peaks of LCA in each layer and, as controls, the peaks of the norm of the gradient at the start of an
    iteration and of the norm of the weight update ("motion"). Norms are taken over all tensors of a layer.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation.
        by_class: Whether to find the peaks of LCA by class too. If so, the allocation must contain LCA by class.
        shifts: Shifts in time, in iterations, from which the baseline is drawn.
        repeats: Number of random shifts.
        seed: Random seed for the shifts.

    Returns:
        The 20 strongest peaks of each layer, the iterations in which all layers have a peak, the number of peaks that
        two layers share, summed over all pairs, and both numbers after random shifts.

    Raises:
        LCAError: If the run has no such allocation, the allocation does not have three consecutive usable iterations,
            or no layer has a peak.
        UsageError: If there are fewer than two repeats, or no shifts.

    Example:
        >>> lca.analysis.synchrony("run.zarr", by_class=True).series["LCA"].synchronized
    """
    if repeats < 2 or not shifts:
        expected, found = "at least two repeats and one shift", f"{repeats} and {len(shifts)}"
        raise UsageError("repeats and shifts", expected=expected, found=found)
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation)
    _require_successive_iterations(allocation, chosen)
    peaks, moving = _find_peaks(allocation, chosen, by_class)
    layers = run.parameters.layers
    return Synchrony(
        series={what: _find_series(at, shifts, repeats, seed) for what, at in peaks.items()},
        layers=[layer for layer, moves in zip(layers, moving, strict=True) if moves],
        still=[layer for layer, moves in zip(layers, moving, strict=True) if not moves],
        classes=allocation.classes,
        shifts=tuple(shifts),
        seed=seed,
        iterations=chosen,
    )


def _find_series(peaks: Counts, shifts: Sequence[int], repeats: int, seed: int) -> Series:
    return Series(
        peaks=peaks,
        synchronized=[find_synchronized(of_class) for of_class in peaks],
        baseline=draw_baseline(peaks, shifts, repeats, seed),
        pair_baseline=draw_pair_baseline(peaks, shifts, repeats, seed),
    )


def _require_successive_iterations(allocation: Allocation, chosen: Iterations) -> None:
    if not np.any(chosen.mask[:-2] & chosen.mask[1:-1] & chosen.mask[2:]):
        raise LCAError(
            f"{allocation.path} does not have three consecutive usable iterations, and a peak needs a neighbor on each "
            "side",
            remedy=("Allocate all iterations with ", allocation.remake(), ". The run must have at least three."),
        )


def _find_peaks(
    allocation: Allocation, chosen: Iterations, by_class: bool
) -> tuple[dict[str, Counts], NDArray[np.bool_]]:
    """Find the peaks of each quantity, and the layers whose LCA has any peak.

    Returns the peaks of these layers by quantity, as arrays of shape (classes, layers, 20), and flags of shape (all
    layers,) that mark these layers.
    """
    table, mask = allocation.parameters, chosen.mask[:, None]

    def find_maxima_of_norm(array: str) -> Counts:
        squares = table.sum_by_layer(allocation.read(array)[: len(mask)] ** 2)
        return find_deepest_minima(-np.sqrt(np.where(mask, squares, np.nan)))

    of_lca = find_deepest_minima(np.where(mask, table.sum_by_layer(allocation.read("tensor_lca")), np.nan))
    moving = np.asarray((of_lca >= 0).any(axis=1))
    if not moving.any():
        raise LCAError(
            f"no layer of {allocation.path} has a peak, because no layer's LCA has a local minimum",
            remedy="Analyze a longer run.",
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
    """Find the peaks of LCA by class, one block at a time to save memory. Returns shape (classes, layers, 20)."""
    table, array = allocation.parameters, allocation.class_lca
    peaks = Peaks((array.shape[1], len(table.layers)))
    for span in allocation.blocks_of_run:
        values = table.sum_by_layer(np.asarray(array[span]))
        peaks.add(span.start, np.where(chosen.mask[span, None, None], values, np.nan))
    return peaks.iterations


def _tabulate_all_layers(results: Sequence[Synchrony]) -> Table:
    rows: dict[str, Coincidences] = {}
    for what, series in _collect_series(results).items():
        row = rows[what] = Coincidences.add_runs([s.n for s in series], [s.baseline for s in series])
        if what == "LCA by class":
            rows["LCA by class, per class"] = row / len(results[0].classes)
    return _tabulate(rows, "synchronized", 1)


def _tabulate_pairs(results: Sequence[Synchrony]) -> Table:
    rows = {
        what: Coincidences.add_runs([s.n_in_pairs for s in series], [s.pair_baseline for s in series])
        / series[0].n_pairs
        for what, series in _collect_series(results).items()
    }
    return _tabulate(rows, "shared", 2, "peaks that two layers share, averaged over all pairs of layers")


def _collect_series(results: Sequence[Synchrony]) -> dict[str, list[Series]]:
    """Return the series of each quantity that all runs have, one per run."""
    common = [what for what in results[0].series if all(what in result.series for result in results)]
    return {what: [result.series[what] for result in results] for what in common}


def _tabulate(rows: dict[str, Coincidences], counted: str, digits: int, title: str = "") -> Table:
    repeats = len(rows["LCA"].chance[0])

    def column(figure: Any) -> Column:
        return Column(np.array([[figure(b) for b in row.chance] for row in rows.values()]).T, 2)

    def format_smallest(p: float) -> str:
        return f"< 1/{repeats + 1}" if p * (repeats + 1) < 1.5 else f"{p:.2g}"

    columns = {
        counted: Column(np.array([row.observed for row in rows.values()]).T, digits),
        "expected by chance": column(np.mean),
        "sd of chance": column(lambda b: np.std(b, ddof=1)),
        "p (one-sided)": Column.of([row.p for row in rows.values()], text=format_smallest),
    }
    return Table("peaks of", list(rows), columns, title)


def _describe(results: Sequence[Synchrony]) -> list[str]:
    """Explain the columns, and name the excluded layers."""
    first = results[0]
    repeats, shifts = len(first.series["LCA"].baseline), ", ".join(f"{s:+d}" if s else "0" for s in first.shifts)
    notes = [
        f"synchronized: iterations that are among the {N_PEAKS} deepest peaks of each of the {len(first.layers)} "
        "layers.",
        f"shared: iterations that are among the {N_PEAKS} deepest peaks of both layers of a pair.",
        f"chance: each layer is shifted in time by a random choice of {shifts} iterations, not all by the same "
        f"amount, {repeats:,} times.",
    ]
    still = list(dict.fromkeys(layer for result in results for layer in result.still))
    return [*notes, *([f"Layers excluded because they have no peak: {', '.join(still)}."] if still else [])]
