"""Reads the large arrays of a run in tiles: strips of parameters, 64 iterations at a time, in chronological order.

Each array is read once, in pieces of 64 iterations and the parameters of one file. One piece is read while the previous
one is processed, so at most two pieces are in memory, regardless of K and T. The tiles of neighboring strips in the
same file are interleaved.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lca.errors import DamagedError
from lca.store.checksums import Array
from lca.store.chunks import find_missing_files, read_part, verify_remedy
from lca.store.parameters import ParameterTable
from lca.store.run import Run
from lca.text import pluralize

STRIP_ROWS = 8_192  # parameters per tile, few enough for a tile to stay in the processor's cache
# Columns per tile: the number of bits in a word, and a multiple of the block length, a power of two up to 64.
WINDOW = 64

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Tile:
    """A part of an array (parameter, iteration) or (parameter, iterate): up to 64 successive columns of a strip.

    `rows` and `columns` locate the tile in the array. `values` has shape (rows, columns). `first` and `last` mark the
    first and last tile of a strip. A consumer that needs state along a strip keeps it under rows.start, from the first
    tile to the last. `mask`, shape (columns,), is True for the columns that are used.
    """

    rows: slice
    columns: slice
    values: NDArray[Any]
    first: bool
    last: bool
    mask: NDArray[np.bool_]

    @cached_property
    def negative(self) -> NDArray[np.bool_]:
        """True where a value is below 0, shape (rows, 64). False in unused columns and beyond the end of the tile."""
        return self._flags(np.less)

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """True where a value is above 0, shape (rows, 64). False in unused columns and beyond the end of the tile."""
        return self._flags(np.greater)

    @cached_property
    def negative_words(self) -> Words:
        """The flags of `negative`, packed into one word per row."""
        return pack_words(self.negative)

    @cached_property
    def positive_words(self) -> Words:
        """The flags of `positive`, packed into one word per row."""
        return pack_words(self.positive)

    @cached_property
    def used_values(self) -> NDArray[Any]:
        """The values in the columns that are used, shape (rows, used columns)."""
        return self.values if self.mask.all() else self.values[:, self.mask]

    def _flags(self, compare: np.ufunc) -> NDArray[np.bool_]:
        n = self.values.shape[1]
        flags = np.zeros((len(self.values), WINDOW), bool)
        compare(self.values, 0, out=flags[:, :n])
        if not self.mask.all():
            flags[:, :n] &= self.mask
        return flags


class Consumer(Protocol):
    """Receives the tiles of one array. The tiles of each strip arrive in chronological order."""

    def add(self, tile: Tile) -> None: ...


def feed(run: Run, array: Array, mask: NDArray[np.bool_] | None, consumers: Sequence[Consumer]) -> None:
    """Read an array of a run once and pass each tile to all consumers. Nothing is read without consumers."""
    for tile in iterate_tiles(run, array, mask) if consumers else ():
        for consumer in consumers:
            consumer.add(tile)


def iterate_tiles(run: Run, array: Array, mask: NDArray[np.bool_] | None = None) -> Iterator[Tile]:
    """Yield the tiles of an array while the next piece is read in the background.

    `mask`, shape (columns,), selects the columns that are used. None selects all of them.

    Raises DamagedError if a file is damaged or missing. Without this check, zarr would read a missing file as fill
    values.
    """
    height, length = array.shape
    mask = np.ones(length, bool) if mask is None else mask
    (tall, wide), high = array.shards or array.chunks, min(array.chunks[0], STRIP_ROWS)
    # An interrupted allocation has not written all of its files, so files in which no column is used may be missing.
    missing = [
        at for _, at in find_missing_files(run.path / array.path, array) if mask[at * wide : (at + 1) * wide].any()
    ]
    if missing:
        damage = f"{run.path}/{array.path} is damaged: {pluralize(len(missing), 'file')} missing"
        raise DamagedError(damage, remedy=verify_remedy(run.path))
    pieces = [
        (slice(top, min(top + tall, height)), slice(begin, min(begin + WINDOW, length)))
        for top in range(0, height, tall)
        for begin in range(0, length, WINDOW)
    ]
    with ThreadPoolExecutor(1, "lca-reader") as pool:
        ahead = pool.submit(_read, run, array, *pieces[0])
        for i, (rows, columns) in enumerate(pieces):
            values = ahead.result()
            if i + 1 < len(pieces):
                ahead = pool.submit(_read, run, array, *pieces[i + 1])
            for top in range(rows.start, rows.stop, high):
                strip = slice(top, min(top + high, rows.stop))
                part = values[top - rows.start : strip.stop - rows.start]
                yield Tile(strip, columns, part, columns.start == 0, columns.stop == length, mask[columns])


def pack_words(flags: NDArray[np.bool_]) -> Words:
    """Pack flags of shape (rows, 64) into one word per row, with the first column in the lowest bit."""
    return np.packbits(flags.ravel(), bitorder="little").view("<u8").astype(np.uint64, copy=False)


class Segments:
    """A division of the parameters into contiguous segments, such as tensors. Segments may be empty.

    `bounds` contains the index of the first parameter of each segment and the end of the last one, ascending.
    """

    def __init__(self, bounds: ArrayLike) -> None:
        self.bounds = np.asarray(bounds, np.int64)

    @classmethod
    def of_tensors(cls, table: ParameterTable) -> "Segments":
        return cls([*(parameter.offset for parameter in table), table.size])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def find(self, rows: slice) -> tuple[slice, NDArray[np.int64]]:
        """Return the segments that overlap the rows, and the first row of each, relative to rows.start."""
        first = int(np.searchsorted(self.bounds, rows.start, "right")) - 1
        end = int(np.searchsorted(self.bounds, rows.stop, "left"))
        return slice(first, end), np.maximum(self.bounds[first:end] - rows.start, 0)

    def sum(self, rows: slice, values: NDArray[Any], dtype: Any) -> tuple[slice, NDArray[Any]]:
        """Sum `values`, shape (rows, …), within each segment that overlaps the rows. Returns the segments and sums."""
        which, starts = self.find(rows)
        return which, self._clear_empty(which, np.add.reduceat(values, starts, axis=0, dtype=dtype))

    def count(self, rows: slice, flags: NDArray[np.bool_]) -> tuple[slice, NDArray[np.int64]]:
        """Count the True values of `flags`, shape (rows, 64), by segment and column.

        Returns the segments that overlap the rows, and counts of shape (segments, 64). This is three times as fast as
        `sum`, because it adds eight columns at once, as the bytes of a word. It adds at most 255 rows at a time, so
        that no byte overflows.
        """
        which, starts = self.find(rows)
        stretches = np.union1d(starts, np.arange(0, len(flags), 255))
        of_stretches = np.add.reduceat(flags.view(np.uint64), stretches, axis=0).view(np.uint8)
        counts = np.add.reduceat(of_stretches, np.searchsorted(stretches, starts), axis=0, dtype=np.int64)
        return which, self._clear_empty(which, counts)

    def _clear_empty(self, which: slice, sums: NDArray[Any]) -> NDArray[Any]:
        """Set the sums of empty segments to 0, because numpy.add.reduceat returns the value at their start instead."""
        sums[self.bounds[which] == self.bounds[which.start + 1 : which.stop + 1]] = 0
        return sums


def _read(run: Run, array: Array, rows: slice, columns: slice) -> NDArray[Any]:
    return read_part(array, (rows, columns), f"{run.path}/{array.path}", verify_remedy(run.path))
