"""How many parameters help in each iteration?     [arXiv 1909.01440, section 3, table 1, figures 3a, c, d]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.cancellation import describe_cancelled, feed_lca, find_cancelled
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.statistics import mean_and_deviation
from lca.analysis.tiles import Segments, Tile
from lca.store.allocation import Allocation
from lca.store.audit import Audit
from lca.store.parameters import ParameterTable
from lca.store.run import Run
from lca.text import plus_minus

N_HELPING_BINS = 50  # bins of the histogram over parameters, as in the paper's figure 3d

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Percentages of all parameters by the sign of their LCA.

    Attributes:
        helped: Percentage of parameters with LCA below 0 in each iteration, shape (T,). NaN in excluded iterations.
        hurt: Percentage of parameters with LCA above 0, shape (T,).
        zero: Percentage of parameters with LCA equal to 0, shape (T,).
    """

    helped: Floats
    hurt: Floats
    zero: Floats


@dataclass(frozen=True, repr=False)
class Helping(Result):
    """The number of parameters that help, hurt or have no effect in each iteration.

    Attributes:
        helped: Number of parameters with LCA below 0 in each iteration and tensor, shape (T, tensors). 0 in excluded
            iterations.
        hurt: Number of parameters with LCA above 0, shape (T, tensors).
        zero: Number of parameters with LCA equal to 0, shape (T, tensors).
        histogram: Number of parameters that helped in 0 to 2 %, 2 to 4 %, …, 98 to 100 % of the iterations, shape
            (50,). Parameters without effect are not included.
        n_without_effect: Number of parameters whose LCA is 0 in all iterations.
        iterations: The iterations that were used.
        cancelled: Names of the biases whose LCA counts as 0, because BatchNorm cancels it except for rounding errors.
        tensors: Names of the tensors.
        layers: Names of the layers.
        layer: For each tensor, the index of its layer in ``layers``, shape (tensors,).
        loss: L(θ_t) at every iterate, shape (T + 1,).
        audit: The audit of the allocation, which measures how many signs are wrong. None if it was not audited.
    """

    helped: Counts
    hurt: Counts
    zero: Counts
    histogram: Counts
    n_without_effect: int
    iterations: Iterations
    cancelled: list[str]
    tensors: list[str]
    layers: list[str]
    layer: NDArray[np.int64]
    loss: Floats
    audit: Audit | None

    @property
    def percentage(self) -> float:
        """Percentage of the parameters with non-zero LCA that help, averaged over iterations."""
        return _mean_percentage(self.helped.sum(1), self.hurt.sum(1))

    @property
    def percentage_by_tensor(self) -> Floats:
        """The value of ``percentage`` for each tensor, shape (tensors,). NaN for a tensor whose LCA is always 0."""
        return np.array([_mean_percentage(a, b) for a, b in zip(self.helped.T, self.hurt.T, strict=True)])

    @property
    def percentage_by_layer(self) -> Floats:
        """The value of ``percentage`` for each layer, shape (layers,). NaN for a layer whose LCA is always 0."""
        members = [self.layer == i for i in range(len(self.layers))]
        return np.array([_mean_percentage(self.helped[:, m].sum(1), self.hurt[:, m].sum(1)) for m in members])

    @property
    def shares(self) -> Shares:
        """Percentages of all parameters that help, hurt or have zero LCA in each iteration."""
        mask = self.iterations.mask
        counts = [np.where(mask, count.sum(1), np.nan) for count in (self.helped, self.hurt, self.zero)]
        n_parameters = counts[0] + counts[1] + counts[2]
        return Shares(*(100 * count / n_parameters for count in counts))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the percentage of parameters that help, by layer and by tensor, as in table 1 of the paper."""
        first = results[0]
        by_layer = np.array([[result.percentage, *result.percentage_by_layer] for result in results])
        by_tensor = np.array([result.percentage_by_tensor for result in results])
        return Answer(
            "helping",
            [
                Table("layer", ["all parameters", *first.layers], {"helping %": Column(by_layer, 2)}),
                Table("tensor", first.tensors, {"helping %": Column(by_tensor, 2)}, "by tensor"),
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
    """Counts the signs of LCA by iteration and by parameter, from the tiles of `lca`."""

    def __init__(self, table: ParameterTable, chosen: Iterations) -> None:
        self.table, self.chosen = table, chosen
        self.segments = Segments.of_tensors(table)
        self.helped, self.hurt = np.zeros((2, len(table), len(chosen.mask)), np.int64)
        self.histogram = np.zeros(N_HELPING_BINS, np.int64)
        self.n_without_effect = 0
        # By strip: the numbers of iterations in which each parameter helped and had an LCA other than 0, (2, rows).
        self._times: dict[int, Counts] = {}

    def add(self, tile: Tile) -> None:
        n = tile.values.shape[1]
        for counts, flags in ((self.helped, tile.negative), (self.hurt, tile.positive)):
            which, found = self.segments.count(tile.rows, flags)
            counts[which, tile.columns] += found[:, :n]
        if tile.first:
            self._times[tile.rows.start] = np.zeros((2, len(tile.values)), np.int64)
        times_helped, times_moved = self._times[tile.rows.start]
        times_helped += np.bitwise_count(tile.negative_words)
        times_moved += np.bitwise_count(tile.negative_words | tile.positive_words)
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
            zero=self.chosen.mask[:, None] * np.array(self.table.sizes) - helped - hurt,
            histogram=self.histogram,
            n_without_effect=self.n_without_effect,
            iterations=self.chosen,
            cancelled=[parameter.name for parameter in find_cancelled(allocation)],
            tensors=[parameter.name for parameter in self.table],
            layers=self.table.layers,
            layer=self.table.layer_index,
            loss=allocation.read("loss"),
            audit=Audit.from_json(audit) if audit else None,
        )


@question
def helping(run: Run, *, name: str = "train") -> Helping:
    """Count the parameters that help and hurt in each iteration.

    A parameter helps in an iteration if its LCA is below 0, and hurts if it is above 0.

    Source: arXiv 1909.01440, section 3, table 1 and figure 3.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation. It must contain the LCA of each parameter.

    Returns:
        The number of parameters of each sign by tensor and iteration, and the percentage of the parameters with
        non-zero LCA that help.

    Raises:
        LCAError: If the run has no such allocation, or the allocation lacks the LCA of each parameter or has no usable
            iteration.

    Example:
        >>> lca.analysis.helping(["run-0.zarr", "run-1.zarr"])
    """
    allocation = run.allocation(name)
    counts = SignCounts(run.parameters, choose_iterations(allocation))
    feed_lca(run, allocation, counts.chosen.mask, [counts])
    return counts.result(allocation)


def _describe(results: Sequence[Helping]) -> list[str]:
    """Describe how often individual parameters help, and how accurate the percentages are."""
    histogram = np.array([result.histogram for result in results])
    without_effect = np.array([result.n_without_effect for result in results])
    n_parameters = histogram.sum(1) + without_effect
    centers = 100 / N_HELPING_BINS * (np.arange(N_HELPING_BINS) + 0.5)
    of_each = histogram @ centers / np.maximum(histogram.sum(1), 1)
    return [
        "helping %: parameters with LCA below 0, in % of those with non-zero LCA, averaged over iterations.",
        f"On average, a parameter with any effect helps in {_spread(of_each)} % of the iterations.",
        "Histogram of parameters by the fraction of iterations in which they helped, from 0 to 100 %:\n"
        f"{_sketch(histogram.sum(0))}",
        f"Parameters without effect (LCA 0 in every iteration): {_spread(without_effect / n_parameters * 100)} %.",
        *describe_cancelled(results[0].cancelled),
        *(_describe_audit(result, i, len(results)) for i, result in enumerate(results)),
    ]


def _describe_audit(result: Helping, i: int, n_runs: int) -> str:
    label = f"Audit, run {i}" if n_runs > 1 else "Audit"
    if result.audit is None:
        return f"{label}: none, so the fraction of wrong signs is unknown."
    shift, shift_half = result.audit.mean("helping_shift")
    wrong, wrong_half = (100 * value for value in result.audit.mean("sign_change"))
    return (
        f"{label}: helping % is off by {plus_minus(shift, shift_half, 3)} percentage points, and "
        f"{plus_minus(wrong, wrong_half, 2)} % of the signs are wrong (95 % confidence)."
    )


def _spread(values: Floats) -> str:
    """Format the mean over runs, with the standard deviation if there are several."""
    mean, deviation = mean_and_deviation(values)
    return plus_minus(float(mean), float(deviation), 1)


def _sketch(counts: Counts) -> str:
    """Draw counts as a sparkline, with a dot for each 0."""
    bars = "▁▂▃▄▅▆▇█"
    heights = np.ceil(len(bars) * counts / max(counts.max(), 1)).astype(int)
    return "".join(bars[height - 1] if height else "·" for height in heights)


def _mean_percentage(helped: Counts, hurt: Counts) -> float:
    """Average 100 · helped / (helped + hurt) over the iterations with non-zero LCA. Both arguments have shape (T,)."""
    moved = helped + hurt > 0
    return float(np.mean(100 * helped[moved] / (helped + hurt)[moved])) if moved.any() else float("nan")
