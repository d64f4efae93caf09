"""The measurements of a run that the findings of a report are based on."""

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from lca.analysis import Helping, Layers, LossCurve
from lca.analysis.tiles import Segments, Tile, feed
from lca.figures.axes import Floats
from lca.store.allocation import Allocation
from lca.store.audit import Audit
from lca.store.run import Run
from lca.store.summary import Summary

# The audit says nothing about a layer if the mean Σ|A| of the layer in the audited iterations is below this fraction of
# its mean in all iterations. This happens if the layer hardly moves in most of the audited iterations.
MIN_AUDITED = 0.1


@dataclass(frozen=True)
class Learning:
    """How the loss changed between the first and the last iterate where it is known.

    Attributes:
        first: First iterate with a known loss.
        last: Last iterate with a known loss.
        start: Loss at `first`.
        end: Loss at `last`.
        lowest: Lowest known loss.
        at_lowest: First iterate with this loss.
        half: First iterate at which half of the decrease was reached. None if the loss did not fall.
        most: First iterate at which 90 % of the decrease was reached. None if the loss did not fall.
        sampled: Whether the loss is unknown at some iterates between `first` and `last`.
    """

    first: int
    last: int
    start: float
    end: float
    lowest: float
    at_lowest: int
    half: int | None
    most: int | None
    sampled: bool

    @property
    def change(self) -> float:
        """The change in the loss, below 0 if the loss fell."""
        return self.end - self.start


@dataclass(frozen=True)
class Evidence:
    """The measurements of one run that the findings are based on.

    Attributes:
        path: Path of the run.
        split: Split whose loss is allocated.
        curve: The loss and the allocated loss change of every iteration.
        layers: LCA of each layer in every iteration.
        helping: Signs of the LCA of the parameters. None if the allocation has only sums over tensors.
        summary: The certificate.
        errors: Estimate of the largest error of each layer's total LCA, shape (layers,). NaN if it is unknown.
    """

    path: str
    split: str
    curve: LossCurve
    layers: Layers
    helping: Helping | None
    summary: Summary
    errors: Floats

    @property
    def name(self) -> str:
        """The file name of the run."""
        return PurePath(self.path).name

    @property
    def unit(self) -> str:
        """Unit of the loss."""
        return self.summary.unit

    @property
    def changes(self) -> Floats:
        """Loss change of every iteration, shape (T,). NaN if the iteration is not allocated or not finite."""
        return self.curve.allocated - self.curve.residual

    @property
    def learning(self) -> Learning:
        """The change in the loss over the run."""
        return measure_learning(fill_loss(self.curve.loss, self.changes))


def fill_loss(loss: Floats, changes: Floats) -> Floats:
    """Add the loss at the end of every iteration whose change is known.

    The store holds the loss at the start of each allocated iteration. The loss at its end may be missing if the next
    iteration is not allocated. `loss` has shape (T + 1,) and `changes` has shape (T,).
    """
    ends = np.append(np.nan, loss[:-1] + changes)
    return np.where(np.isfinite(loss), loss, ends)


def measure_learning(loss: Floats) -> Learning:
    """Measure when the loss, of shape (T + 1,), fell. NaN marks iterates with an unknown loss."""
    known = np.flatnonzero(np.isfinite(loss))
    values = loss[known]
    start, end, lowest = float(values[0]), float(values[-1]), int(np.argmin(values))

    def find_first(fraction: float) -> int | None:
        reached = start - values >= fraction * (start - end)
        return int(known[np.argmax(reached)]) if end < start else None

    return Learning(
        first=int(known[0]),
        last=int(known[-1]),
        start=start,
        end=end,
        lowest=float(values[lowest]),
        at_lowest=int(known[lowest]),
        half=find_first(0.5),
        most=find_first(0.9),
        sampled=len(known) < known[-1] - known[0] + 1,
    )


class AbsoluteSums:
    """Sums |A| over each tensor in each iteration, from the tiles of `lca`. `sums` has shape (tensors, T)."""

    def __init__(self, run: Run, length: int) -> None:
        self.segments = Segments.of_tensors(run.parameters)
        self.sums = np.zeros((len(run.parameters), length))

    def add(self, tile: Tile) -> None:
        which, found = self.segments.sum(tile.rows, np.abs(tile.values), np.float64)
        self.sums[which, tile.columns] += found


def estimate_layer_errors(run: Run, allocation: Allocation, layers: Layers, audit: Audit | None) -> Floats:
    """Estimate the largest error of the total LCA of each layer. Returns NaN where it is unknown.

    The estimate is the largest relative part error of the audited iterations, times Σ|A| of the layer. It assumes that
    the relative error of the layer is that of the whole network, and that all errors have the same sign.
    """
    if audit is None or "lca" not in allocation.arrays:
        return np.full(len(layers.layers), np.nan)
    mask = layers.iterations.mask
    absolute = AbsoluteSums(run, len(mask))
    feed(run, allocation.lca, mask, [absolute])
    by_iteration = run.parameters.sum_by_layer(np.where(mask[:, None], absolute.sums.T, 0))
    return bound_layer_errors(by_iteration[mask], np.isin(np.flatnonzero(mask), audit.iterations), audit)


def bound_layer_errors(absolute: Floats, audited: NDArray[np.bool_], audit: Audit) -> Floats:
    """Return the largest audited part error times Σ|A| of each layer, or NaN where the audit is not representative.

    `absolute` is Σ|A| by iteration and layer, and `audited` marks the iterations that were audited.
    """
    if not audited.any():
        return np.full(absolute.shape[1], np.nan)
    is_covered = absolute[audited].mean(axis=0) >= MIN_AUDITED * absolute.mean(axis=0)
    return np.where(is_covered, max(audit.part_error) * absolute.sum(axis=0), np.nan)
