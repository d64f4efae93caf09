"""How many parameters help in an iteration?     [arXiv 1909.01440, section 3, table 1, figures 3a, c, d]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.statistics import mean_and_deviation
from lca.analysis.tiles import Segments, Tile, feed
from lca.store.allocation import Allocation
from lca.store.audit import Audit, mean_with_confidence
from lca.store.parameters import ParameterTable
from lca.store.run import Run
from lca.text import plus_minus

N_HELPING_BINS = 50  # of the histogram over parameters, as in the paper's figure 3d

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Percentages of all parameters that helped, hurt and had zero LCA, (T,) each; NaN in what does not count."""

    helped: Floats
    hurt: Floats
    zero: Floats


@dataclass(frozen=True, repr=False)
class Helping(Result):
    """Parameters by the sign of their LCA.

    helped, hurt, zero: (T, tensor), how many have LCA < 0, > 0 and = 0 in each iteration that counts.
    histogram: (50,), how many parameters helped in 0 to 2 %, … 98 to 100 % of the iterations that count; those without
    effect, whose LCA was 0 in all of them, are left out of it and counted in n_without_effect.
    tensors, layers: their names; layer: (tensor,), the index in layers of each tensor's layer. loss: (T+1,), L(θ_t).
    audit: how many signs may be wrong; None if the allocation was not audited.
    """

    helped: Counts
    hurt: Counts
    zero: Counts
    histogram: Counts
    n_without_effect: int
    iterations: Iterations
    tensors: list[str]
    layers: list[str]
    layer: NDArray[np.int64]
    loss: Floats
    audit: Audit | None

    @property
    def percentage(self) -> float:
        """Percentage helping of the parameters with non-zero LCA, averaged over iterations."""
        return _mean_percentage(self.helped.sum(1), self.hurt.sum(1))

    @property
    def percentage_by_tensor(self) -> Floats:
        """The same for each tensor by itself, (tensor,); NaN for one that never had any effect."""
        return np.array([_mean_percentage(a, b) for a, b in zip(self.helped.T, self.hurt.T, strict=True)])

    @property
    def percentage_by_layer(self) -> Floats:
        """The same for each layer by itself, (layer,)."""
        members = [self.layer == i for i in range(len(self.layers))]
        return np.array([_mean_percentage(self.helped[:, m].sum(1), self.hurt[:, m].sum(1)) for m in members])

    @property
    def shares(self) -> Shares:
        """Percentages of all parameters over time."""
        counted = self.iterations.counted
        counts = [np.where(counted, count.sum(1), np.nan) for count in (self.helped, self.hurt, self.zero)]
        n_parameters = counts[0] + counts[1] + counts[2]
        return Shares(*(100 * count / n_parameters for count in counts))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The percentage helping in total, by layer and by tensor, over runs of the same model     [table 1]"""
        first = results[0]
        by_layer = np.array([[result.percentage, *result.percentage_by_layer] for result in results])
        by_tensor = np.array([result.percentage_by_tensor for result in results])
        return Answer(
            "helping",
            [
                Table("layer", ["all parameters", *first.layers], {"helping %": Column(by_layer)}),
                Table("tensor", first.tensors, {"helping %": Column(by_tensor)}, "by tensor"),
            ],
            [result.iterations for result in results],
            _describe(results),
            {
                "histogram": np.array([result.histogram for result in results]),
                "n_without_effect": [result.n_without_effect for result in results],
                **{name: [getattr(r, name).sum(axis=1) for r in results] for name in ("helped", "hurt", "zero")},
            },
        )


class SignCounts:
    """Takes the tiles of `lca`, and counts its signs."""

    def __init__(self, table: ParameterTable, chosen: Iterations) -> None:
        self.table, self.chosen = table, chosen
        self.segments = Segments.of_tensors(table)
        self.helped, self.hurt = np.zeros((2, len(table), len(chosen.counted)), np.int64)
        self.histogram = np.zeros(N_HELPING_BINS, np.int64)
        self.n_without_effect = 0
        self._times: dict[
            int, Counts
        ] = {}  # by strip: (2, rows), iterations in which each parameter helped, and moved L

    def add(self, tile: Tile) -> None:
        n = tile.values.shape[1]
        for counts, flags in ((self.helped, tile.helped), (self.hurt, tile.hurt)):
            which, found = self.segments.count(tile.rows, flags)
            counts[which, tile.columns] += found[:, :n]
        if tile.first:
            self._times[tile.rows.start] = np.zeros((2, len(tile.values)), np.int64)
        times_helped, times_moved = self._times[tile.rows.start]
        times_helped += np.bitwise_count(tile.helped_words)
        times_moved += np.bitwise_count(tile.helped_words | tile.hurt_words)
        if tile.last:
            del self._times[tile.rows.start]
            moved = times_moved > 0
            bins = np.minimum(N_HELPING_BINS * times_helped[moved] // self.chosen.n, N_HELPING_BINS - 1)
            self.histogram += np.bincount(bins, minlength=N_HELPING_BINS)
            self.n_without_effect += int((~moved).sum())

    def result(self, allocation: Allocation) -> Helping:
        helped, hurt = self.helped.T, self.hurt.T
        audit = allocation.attributes.get("audit_result")
        return Helping(
            helped=helped,
            hurt=hurt,
            zero=self.chosen.counted[:, None] * np.array(self.table.sizes) - helped - hurt,
            histogram=self.histogram,
            n_without_effect=self.n_without_effect,
            iterations=self.chosen,
            tensors=[parameter.name for parameter in self.table],
            layers=self.table.layers,
            layer=self.table.layer_index,
            loss=allocation.read("loss"),
            audit=Audit(**audit) if audit else None,
        )


@question
def helping(run: Run, *, name: str = "train", unconverged: bool = False) -> Helping:
    """How many parameters help in an iteration?     [arXiv 1909.01440, section 3, table 1, figure 3]

    A parameter helps in an iteration if its LCA is below 0, and hurts if it is above.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about; it must hold the LCA of each parameter.
        unconverged: Whether iterations that did not converge count too.

    Returns:
        The number of parameters of each sign, by tensor and iteration; percentages are of the parameters with non-zero
        LCA.

    Raises:
        LCAError: If the run has no such allocation, or no iteration of it counts.

    Example:
        >>> lca.analysis.helping(["run-0.zarr", "run-1.zarr"])
    """
    allocation = run.allocation(name)
    counts = SignCounts(run.parameters, choose_iterations(allocation, unconverged))
    feed(run, allocation.lca, counts.chosen.counted, [counts])
    return counts.result(allocation)


def _describe(results: Sequence[Helping]) -> list[str]:
    """How often single parameters help, and how exact the percentages are."""
    histogram = np.array([result.histogram for result in results])
    without_effect = np.array([result.n_without_effect for result in results])
    n_parameters = histogram.sum(1) + without_effect
    centres = 100 / N_HELPING_BINS * (np.arange(N_HELPING_BINS) + 0.5)
    of_each = histogram @ centres / np.maximum(histogram.sum(1), 1)
    return [
        f"a parameter with any effect helps in {_spread(of_each)} % of the iterations: {_sketch(histogram.sum(0))} "
        "from 0 to 100 %",
        f"without effect: {_spread(without_effect / n_parameters * 100)} % of the parameters",
        *(_describe_audit(result, i, len(results)) for i, result in enumerate(results)),
    ]


def _describe_audit(result: Helping, i: int, n_runs: int) -> str:
    of_run = f"run {i}, " if n_runs > 1 else ""
    if result.audit is None:
        return f"{of_run}audit: none, so it is unknown how many signs are wrong"
    shift, shift_half = mean_with_confidence(result.audit.helping_shift)
    wrong, wrong_half = (100 * value for value in mean_with_confidence(result.audit.sign_change))
    return (
        f"{of_run}audit: the percentage is off by {plus_minus(shift, shift_half, 3)} points, "
        f"{plus_minus(wrong, wrong_half, 2)} % of the signs are wrong (95 % confidence)"
    )


def _spread(values: Floats) -> str:
    """The mean over runs, with the deviation where there are several."""
    mean, deviation = mean_and_deviation(values)
    return plus_minus(float(mean), float(deviation), 1)


def _sketch(counts: Counts) -> str:
    """A bar of one character for each count; only a count of 0 has none."""
    bars = "▁▂▃▄▅▆▇█"
    heights = np.ceil(len(bars) * counts / max(counts.max(), 1)).astype(int)
    return "".join(bars[height - 1] if height else "·" for height in heights)


def _mean_percentage(helped: Counts, hurt: Counts) -> float:
    """(T,), (T,) -> the mean over the iterations that have any non-zero LCA; NaN if none has."""
    moved = helped + hurt > 0
    return float(np.mean(100 * helped[moved] / (helped + hurt)[moved])) if moved.any() else float("nan")
