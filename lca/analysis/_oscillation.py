"""How often do weights, gradients and LCA change direction?     [arXiv 1909.01440, section 3, figures S7, S8]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table, format_whole
from lca.analysis.cancellation import feed_lca
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import WINDOW, Segments, Tile, Words, feed, pack_words
from lca.store.blocks import ceil_div
from lca.store.parameters import ParameterTable
from lca.store.run import Run
from lca.store.schema import Status

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Changes:
    """The number of sign changes of a quantity, and the number of iterations in which they were observed.

    Attributes:
        counts: Number of sign changes in each tensor, summed over its parameters, shape (tensors,).
        n: Number of iterations in which a sign change could be observed.
    """

    counts: Counts
    n: int


@dataclass(frozen=True, repr=False)
class Oscillation(Result):
    """Sign changes of weight updates, gradients and LCA from one iteration to the next.

    Only parameters that move are counted. The others, such as those of frozen layers or dead neurons, have no direction
    that could change.

    Attributes:
        table: The parameter table of the run.
        moving: Number of parameters of each tensor whose value changes at least once, shape (tensors,).
        turns: Sign changes between successive weight updates. An update of 0 has no sign.
        of_lca: Sign changes of LCA between successive iterations that are both used. An LCA of 0 has no sign.
        crossings: Sign changes of the gradient between successive iterates, from positive to not positive or back.
            None if they were not counted.
        iterations: The iterations that were used.
    """

    table: ParameterTable
    moving: Counts
    turns: Changes
    of_lca: Changes
    crossings: Changes | None
    iterations: Iterations

    def iterations_per(self, changes: Changes) -> Floats:
        """Return the mean number of iterations per sign change of a parameter that moves.

        Args:
            changes: One of the attributes ``turns``, ``of_lca`` and ``crossings``.

        Returns:
            One value for all parameters followed by one for each layer, shape (1 + layers,). A value is inf if no sign
            changes, and NaN if no parameter moves or no sign change could be observed.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            per_parameter = self._sum(changes.counts) / self._sum(self.moving)
            return np.asarray(changes.n / per_parameter)

    def _sum(self, counts: Counts) -> Floats:
        """Sum counts by tensor. Returns the total followed by the sum of each layer, shape (1 + layers,)."""
        by_layer = self.table.sum_by_layer(counts.astype(np.float64))
        return np.append(by_layer.sum(), by_layer)

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show iterations per sign change, for all parameters and by layer, as in figure S7 of the paper."""
        kinds = {"weight update": "turns", "gradient": "crossings", "LCA": "of_lca"}
        columns = {"moving parameters": Column(np.array([r._sum(r.moving) for r in results]), text=format_whole)}
        columns |= {
            heading: Column(np.array([result.iterations_per(getattr(result, kind)) for result in results]), 1)
            for heading, kind in kinds.items()
            if all(getattr(result, kind) is not None for result in results)
        }
        rows = ["all parameters", *results[0].table.layers]
        return Answer(
            "oscillation",
            [Table("layer", rows, columns, "iterations per sign change of a parameter that moves")],
            [result.iterations for result in results],
            [_describe(results)],
        )


class SignChanges:
    """Counts sign changes between successive columns of each row of an array, 64 columns at a time."""

    def __init__(self, table: ParameterTable) -> None:
        self.segments = Segments.of_tensors(table)
        self.counts = np.zeros(len(table), np.int64)
        self._last: dict[int, tuple[Words, Words]] = {}  # by strip: whether the last values are below and above 0

    def accumulate(self, tile: Tile, below: Words, above: Words) -> None:
        """Add a tile whose values below and above 0 are given as bit flags, one word per row."""
        start, one = tile.rows.start, np.uint64(1)
        was_below, was_above = (0, 0) if tile.first else self._last[start]
        changed = below & (above << one | was_above) | above & (below << one | was_below)
        which, sums = self.segments.sum(tile.rows, np.bitwise_count(changed), np.int64)
        self.counts[which] += sums
        last = np.uint64(tile.values.shape[1] - 1)
        self._last[start] = below >> last & one, above >> last & one
        if tile.last:
            del self._last[start]


class TurnsOfLCA(SignChanges):
    """Counts sign changes of LCA, from the tiles of `lca`."""

    def add(self, tile: Tile) -> None:
        self.accumulate(tile, tile.negative_words, tile.positive_words)


class Turns(SignChanges):
    """Counts sign changes of weight updates, from the tiles of `weights`.

    Bit j of a word is the sign of the update that leads to iterate j of the tile. `moving` marks the parameters with an
    update other than 0, one bit each, as in `gradient_sign`.
    """

    def __init__(self, table: ParameterTable) -> None:
        super().__init__(table)
        self.moving = np.zeros(ceil_div(table.size, 8), np.uint8)
        self._before: dict[int, NDArray[np.float32]] = {}  # by strip: the last iterate of the previous tile

    def add(self, tile: Tile) -> None:
        n = tile.values.shape[1]
        down, up = np.zeros((2, len(tile.values), WINDOW), bool)
        for flags, compare in ((down, np.less), (up, np.greater)):  # only the sign of the update is needed
            compare(tile.values[:, 1:], tile.values[:, :-1], out=flags[:, 1:n])
            if not tile.first:
                compare(tile.values[:, 0], self._before[tile.rows.start], out=flags[:, 0])
            if not tile.mask.all():
                flags[:, :n] &= tile.mask
        self._before[tile.rows.start] = tile.values[:, -1].copy()
        if tile.last:
            del self._before[tile.rows.start]
        below, above = pack_words(down), pack_words(up)
        self.accumulate(tile, below, above)
        first, shift = divmod(tile.rows.start, 8)
        bits = np.packbits(np.append(np.zeros(shift, bool), below | above != 0))
        self.moving[first : first + len(bits)] |= bits


class Crossings:
    """Counts sign changes of the gradient, from the tiles of `gradient_sign`. Each row holds eight parameters.

    Parameters whose bit in `moving` is 0 are not counted.
    """

    def __init__(self, table: ParameterTable, moving: NDArray[np.uint8]) -> None:
        self.bounds, self.moving = Segments.of_tensors(table).bounds, moving
        self.counts = np.zeros(len(table), np.int64)
        # By strip: the signs at the last iterate of the previous tile, and whether they are known.
        self._before: dict[int, tuple[NDArray[np.uint8], bool]] = {}

    def add(self, tile: Tile) -> None:
        """Add a tile whose `mask` marks the iterates at which the gradient is known."""
        signs, known = tile.values, tile.mask
        if not tile.first:
            before, was_known = self._before[tile.rows.start]
            signs, known = np.concatenate([before[:, None], signs], axis=1), np.append(was_known, known)
        changed = (signs[:, 1:] ^ signs[:, :-1]) & self.moving[tile.rows, None]
        pairs = known[1:] & known[:-1]
        self.counts += count_bits_by_tensor(changed if pairs.all() else changed[:, pairs], tile.rows, self.bounds)
        self._before[tile.rows.start] = signs[:, -1].copy(), bool(known[-1])
        if tile.last:
            del self._before[tile.rows.start]


def count_bits_by_tensor(bits: NDArray[np.uint8], rows: slice, bounds: Counts) -> Counts:
    """Count the set bits of each tensor in a range `rows` of an array that holds eight parameters per byte.

    `bits` contains the bytes of these rows, shape (rows, …). `bounds` contains the index of the first parameter of each
    tensor and the end of the last one. The count is the difference between the numbers of set bits before the two ends
    of a tensor. Each end may lie within a byte.
    """
    before = np.append(0, np.cumsum(np.bitwise_count(bits).sum(axis=1, dtype=np.int64)))
    ends = np.clip(bounds - 8 * rows.start, 0, 8 * len(bits))
    whole, rest = np.divmod(ends, 8)
    # The first parameter is in the highest bit, as in numpy.packbits.
    first_bits = (0xFF00 >> rest & 0xFF).astype(np.uint8)
    within = np.bitwise_count(bits[np.minimum(whole, len(bits) - 1)] & first_bits[:, None])
    return np.asarray(np.diff(before[whole] + within.sum(axis=1, dtype=np.int64)))


class Directions:
    """The consumers that count the sign changes of a run. `crossings` is None unless requested."""

    def __init__(self, run: Run, name: str, chosen: Iterations, crossings: bool) -> None:
        self.allocation = run.allocation(name)
        self.run, self.table, self.chosen = run, run.parameters, chosen
        self.finite = self.allocation.read("status") != Status.NOT_FINITE
        self.known = np.isfinite(self.allocation.read("loss"))
        self.turns, self.of_lca = Turns(self.table), TurnsOfLCA(self.table)
        self.crossings = Crossings(self.table, self.turns.moving) if crossings else None

    def feed_others(self) -> None:
        """Read the weights and, if requested, the signs of the gradient. The caller has to read the LCA itself."""
        feed(self.run, self.run.weights, np.append(True, self.finite), [self.turns])
        if self.crossings:
            feed(self.run, self.allocation.gradient_sign, self.known, [self.crossings])

    def result(self) -> Oscillation:
        crossings, moving = self.crossings, self.turns.moving
        return Oscillation(
            table=self.table,
            moving=count_bits_by_tensor(moving[:, None], slice(0, len(moving)), self.turns.segments.bounds),
            turns=Changes(self.turns.counts, int(self.finite.sum())),
            of_lca=Changes(self.of_lca.counts, _count_with_neighbor(self.chosen.mask)),
            crossings=Changes(crossings.counts, int((self.known[1:] & self.known[:-1]).sum())) if crossings else None,
            iterations=self.chosen,
        )


@question
def oscillation(run: Run, *, name: str = "train", crossings: bool = True) -> Oscillation:
    """Count how often weight updates, gradients and LCA change sign.

    Source: arXiv 1909.01440, section 3, figures S7 and S8.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation. It must contain the LCA of each parameter.
        crossings: Whether to count sign changes of the gradient. If so, the allocation must contain the signs of the
            gradient.

    Returns:
        The numbers of sign changes by tensor. The method ``iterations_per`` of the result converts them to iterations
        per sign change.

    Raises:
        LCAError: If the run has no such allocation, or the allocation lacks a required array or has no usable
            iteration.

    Example:
        >>> result = lca.analysis.oscillation("run.zarr", crossings=False)
        >>> result.iterations_per(result.turns)
    """
    allocation = run.allocation(name)
    if crossings:
        _ = allocation.gradient_sign  # raises before the other arrays are read
    directions = Directions(run, name, choose_iterations(allocation), crossings)
    feed_lca(run, allocation, directions.chosen.mask, [directions.of_lca])
    directions.feed_others()
    return directions.result()


def _describe(results: Sequence[Oscillation]) -> str:
    moving = [int(result.moving.sum()) for result in results]
    of_all, still = f"of {results[0].table.size:,}", "The others never move and are not counted."
    return f"moving parameters: {', '.join(f'{n:,}' for n in moving)} {of_all}. {still}"


def _count_with_neighbor(mask: NDArray[np.bool_]) -> int:
    """Count the used iterations whose predecessor or successor is used too."""
    pairs = mask[1:] & mask[:-1]
    return int((np.append(pairs, False) | np.append(False, pairs)).sum())
