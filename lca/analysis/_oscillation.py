"""How often do weights, gradients and LCA change direction?     [arXiv 1909.01440, section 3, figures S7, S8]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import WINDOW, Segments, Tile, Words, feed, pack_words
from lca.store.parameters import ParameterTable
from lca.store.run import Run
from lca.store.schema import Status

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Changes:
    """Changes of sign. counts: (tensor,), summed over the parameters. n: the points in time whose sign could change."""

    counts: Counts
    n: int


@dataclass(frozen=True, repr=False)
class Oscillation(Result):
    """Changes of direction from one iteration to the next.

    table: the parameters. turns: of the weights, where the product of two successive motions is below 0. of_lca: the
    same of the LCA, between iterations that both count. crossings: of the gradient between two iterates, from positive
    to not positive or back; None if they were not requested.
    """

    table: ParameterTable
    turns: Changes
    of_lca: Changes
    crossings: Changes | None
    iterations: Iterations

    def iterations_per(self, changes: Changes) -> Floats:
        """T over the mean count of a parameter, for all and for each layer, (1 + layer,).

        inf where nothing changes, NaN where nothing could.
        """
        counts = self.table.sum_by_layer(changes.counts.astype(np.float64))
        sizes = self.table.sum_by_layer(np.array(self.table.sizes, np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            per_parameter = np.append(counts.sum(), counts) / np.append(sizes.sum(), sizes)
            return np.asarray(changes.n / per_parameter)

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Iterations per change of direction, of all parameters and by layer, over runs     [figure S7]"""
        kinds = {"weight turns": "turns", "gradient crosses 0": "crossings", "LCA turns": "of_lca"}
        columns = {
            heading: Column(np.array([result.iterations_per(getattr(result, kind)) for result in results]), 1)
            for heading, kind in kinds.items()
            if all(getattr(result, kind) is not None for result in results)
        }
        rows = ["all parameters", *results[0].table.layers]
        return Answer(
            "oscillation",
            [Table("layer", rows, columns, "iterations per change of direction")],
            [result.iterations for result in results],
        )


class SignChanges:
    """Counts where a sign is the opposite of the one before it along each row, 64 columns at a time."""

    def __init__(self, table: ParameterTable) -> None:
        self.segments = Segments.of_tensors(table)
        self.counts = np.zeros(len(table), np.int64)
        self._last: dict[int, tuple[Words, Words]] = {}  # by strip: whether the last column was < 0, and > 0

    def accumulate(self, tile: Tile, below: Words, above: Words) -> None:
        """below, above: where the columns of the tile are < 0 and > 0, one word per row."""
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
    """Takes the tiles of `lca`."""

    def add(self, tile: Tile) -> None:
        self.accumulate(tile, tile.helped_words, tile.hurt_words)


class Turns(SignChanges):
    """Takes the tiles of `weights`; bit j of a tile's words is the motion to its iterate j from the one before."""

    def __init__(self, table: ParameterTable) -> None:
        super().__init__(table)
        self._before: dict[int, NDArray[np.float32]] = {}  # by strip: the last iterate of the tile before

    def add(self, tile: Tile) -> None:
        n = tile.values.shape[1]
        down, up = np.zeros((2, len(tile.values), WINDOW), bool)
        for flags, compare in ((down, np.less), (up, np.greater)):  # motion itself is not needed, only its sign
            compare(tile.values[:, 1:], tile.values[:, :-1], out=flags[:, 1:n])
            if not tile.first:
                compare(tile.values[:, 0], self._before[tile.rows.start], out=flags[:, 0])
            if not tile.counted.all():
                flags[:, :n] &= tile.counted
        self._before[tile.rows.start] = tile.values[:, -1].copy()
        if tile.last:
            del self._before[tile.rows.start]
        self.accumulate(tile, pack_words(down), pack_words(up))


class Crossings:
    """Takes the tiles of `gradient_sign`, whose rows are eight parameters each."""

    def __init__(self, table: ParameterTable) -> None:
        self.bounds = Segments.of_tensors(table).bounds
        self.counts = np.zeros(len(table), np.int64)
        self._before: dict[int, tuple[NDArray[np.uint8], bool]] = {}  # the iterate before, and whether it is known

    def add(self, tile: Tile) -> None:
        """tile.counted: where the gradient is known."""
        signs, known = tile.values, tile.counted
        if not tile.first:
            before, was_known = self._before[tile.rows.start]
            signs, known = np.concatenate([before[:, None], signs], axis=1), np.append(was_known, known)
        changed = signs[:, 1:] ^ signs[:, :-1]
        pairs = known[1:] & known[:-1]
        self.counts += self._by_tensor(changed if pairs.all() else changed[:, pairs], tile.rows)
        self._before[tile.rows.start] = signs[:, -1].copy(), bool(known[-1])
        if tile.last:
            del self._before[tile.rows.start]

    def _by_tensor(self, changed: NDArray[np.uint8], rows: slice) -> Counts:
        """changed (rows, …), a bit for each parameter -> (tensor,), how many are set.

        The difference of how many are set before the two ends of a tensor, which may lie within a byte.
        """
        before = np.append(0, np.cumsum(np.bitwise_count(changed).sum(axis=1, dtype=np.int64)))
        ends = np.clip(self.bounds - 8 * rows.start, 0, 8 * len(changed))
        whole, rest = np.divmod(ends, 8)
        first_bits = (0xFF00 >> rest & 0xFF).astype(np.uint8)  # numpy.packbits has the first parameter highest
        within = np.bitwise_count(changed[np.minimum(whole, len(changed) - 1)] & first_bits[:, None])
        return np.asarray(np.diff(before[whole] + within.sum(axis=1, dtype=np.int64)))


class Directions:
    """The consumers that count all changes of direction of a run; crossings is None unless requested."""

    def __init__(self, run: Run, name: str, chosen: Iterations, crossings: bool) -> None:
        self.allocation = run.allocation(name)
        self.run, self.table, self.chosen = run, run.parameters, chosen
        self.finite = self.allocation.read("status") != Status.NOT_FINITE
        self.known = np.isfinite(self.allocation.read("loss"))
        self.turns, self.of_lca = Turns(self.table), TurnsOfLCA(self.table)
        self.crossings = Crossings(self.table) if crossings else None

    def feed_others(self) -> None:
        """Read the weights and the signs of the gradient; the caller reads the LCA."""
        feed(self.run, self.run.weights, np.append(True, self.finite), [self.turns])
        if self.crossings:
            feed(self.run, self.allocation.gradient_sign, self.known, [self.crossings])

    def result(self) -> Oscillation:
        crossings = self.crossings
        return Oscillation(
            table=self.table,
            turns=Changes(self.turns.counts, int(self.finite.sum())),
            of_lca=Changes(self.of_lca.counts, _count_with_neighbour(self.chosen.counted)),
            crossings=Changes(crossings.counts, int((self.known[1:] & self.known[:-1]).sum())) if crossings else None,
            iterations=self.chosen,
        )


@question
def oscillation(run: Run, *, name: str = "train", unconverged: bool = False, crossings: bool = True) -> Oscillation:
    """How often do weights, gradients and LCA change direction?     [arXiv 1909.01440, section 3, figures S7, S8]

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about; it must hold the LCA of each parameter.
        unconverged: Whether iterations that did not converge count too.
        crossings: Whether to count where the gradient crosses 0, for which the allocation must hold its signs.

    Returns:
        The number of changes of direction, by tensor; `iterations_per` gives iterations per change.

    Raises:
        LCAError: If the run has no such allocation, it lacks an array, or no iteration of it counts.

    Example:
        >>> result = lca.analysis.oscillation("run.zarr", crossings=False)
        >>> result.iterations_per(result.turns)
    """
    allocation = run.allocation(name)
    if crossings:
        _ = allocation.gradient_sign  # raises now rather than after the rest
    directions = Directions(run, name, choose_iterations(allocation, unconverged), crossings)
    feed(run, allocation.lca, directions.chosen.counted, [directions.of_lca])
    directions.feed_others()
    return directions.result()


def _count_with_neighbour(counted: NDArray[np.bool_]) -> int:
    """How many iterations count whose predecessor or successor counts too."""
    pairs = counted[1:] & counted[:-1]
    return int((np.append(pairs, False) | np.append(False, pairs)).sum())
