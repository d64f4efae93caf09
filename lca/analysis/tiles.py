"""The large arrays in tiles: strips of parameters, 64 iterations of each at a time, in order of time.

Each file is read once, before it is needed. At most two rows of files, 64 iterations long, are in memory, whatever K
and T are. Between two tiles of a strip come those of its neighbours in the same file.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lca.errors import DamagedError
from lca.store.chunks import Array, find_missing_files, read_part
from lca.store.parameters import ParameterTable
from lca.store.run import Run, verify_remedy

STRIP_ROWS = 8_192  # parameters in a tile, few enough for it to stay in the processor's cache while it is used
WINDOW = 64  # columns of a tile: the bits of a word; blocks, of 64 iterations or a smaller power of two, divide it

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Tile:
    """A strip of an array (parameter, iteration) or (parameter, iterate), in at most 64 successive columns.

    rows, columns: its place in the array. values: (rows, columns). first, last: whether it begins or ends its strip, so
    that what a consumer carries along the strip (kept by rows.start) is begun or finished. counted: (columns,), which
    of them count.
    """

    rows: slice
    columns: slice
    values: NDArray[Any]
    first: bool
    last: bool
    counted: NDArray[np.bool_]

    @cached_property
    def helped(self) -> NDArray[np.bool_]:
        """Where LCA < 0, (rows, 64); False in columns that do not count, and in those beyond the last."""
        return self._flags(np.less)

    @cached_property
    def hurt(self) -> NDArray[np.bool_]:
        """Where LCA > 0, likewise."""
        return self._flags(np.greater)

    @cached_property
    def helped_words(self) -> Words:
        """helped, one word per row."""
        return pack_words(self.helped)

    @cached_property
    def hurt_words(self) -> Words:
        """hurt, one word per row."""
        return pack_words(self.hurt)

    @cached_property
    def counted_values(self) -> NDArray[Any]:
        """The columns that count."""
        return self.values if self.counted.all() else self.values[:, self.counted]

    def _flags(self, compare: np.ufunc) -> NDArray[np.bool_]:
        n = self.values.shape[1]
        flags = np.zeros((len(self.values), WINDOW), bool)
        compare(self.values, 0, out=flags[:, :n])
        if not self.counted.all():
            flags[:, :n] &= self.counted
        return flags


class Consumer(Protocol):
    """Takes the tiles of one array, those of a strip in order of time."""

    def add(self, tile: Tile) -> None: ...


def feed(run: Run, array: Array, counted: NDArray[np.bool_] | None, consumers: Sequence[Consumer]) -> None:
    """Read an array of a run once, and hand each tile of it to all consumers."""
    for tile in iterate_tiles(run, array, counted) if consumers else ():
        for consumer in consumers:
            consumer.add(tile)


def iterate_tiles(run: Run, array: Array, counted: NDArray[np.bool_] | None = None) -> Iterator[Tile]:
    """The tiles of an array of a run, while the next piece is read. counted: (columns,); all of them if None.

    Raises DamagedError where a file is damaged or missing; zarr would read a missing one as values that were never
    written.
    """
    height, length = array.shape
    counted = np.ones(length, bool) if counted is None else counted
    (tall, wide), high = array.shards or array.chunks, min(array.chunks[0], STRIP_ROWS)
    # Where nothing counts there may be no file yet: an allocation that was interrupted has not begun it.
    missing = [
        at for _, at in find_missing_files(run.path / array.path, array) if counted[at * wide : (at + 1) * wide].any()
    ]
    if missing:
        damage = f"{run.path}/{array.path} is damaged: {len(missing)} of its files are missing"
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
                yield Tile(strip, columns, part, columns.start == 0, columns.stop == length, counted[columns])


def pack_words(flags: NDArray[np.bool_]) -> Words:
    """flags (rows, 64) -> one word per row, the first column in its lowest bit."""
    return np.packbits(flags.ravel(), bitorder="little").view("<u8").astype(np.uint64, copy=False)


class Segments:
    """Stretches of successive parameters, such as those of each tensor.

    bounds: where each begins, and where the last one ends, ascending.
    """

    def __init__(self, bounds: ArrayLike) -> None:
        self.bounds = np.asarray(bounds, np.int64)

    @classmethod
    def of_tensors(cls, table: ParameterTable) -> "Segments":
        return cls([*(parameter.offset for parameter in table), table.size])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def find(self, rows: slice) -> tuple[slice, NDArray[np.int64]]:
        """Which segments meet the rows, and where each of them begins, counted from the first row."""
        first = int(np.searchsorted(self.bounds, rows.start, "right")) - 1
        end = int(np.searchsorted(self.bounds, rows.stop, "left"))
        return slice(first, end), np.maximum(self.bounds[first:end] - rows.start, 0)

    def sum(self, rows: slice, values: NDArray[Any], dtype: Any) -> tuple[slice, NDArray[Any]]:
        """values (rows, …) -> which segments they meet, and the sums over the part of each that is in rows."""
        which, starts = self.find(rows)
        return which, np.add.reduceat(values, starts, axis=0, dtype=dtype)

    def count(self, rows: slice, flags: NDArray[np.bool_]) -> tuple[slice, NDArray[np.int64]]:
        """flags (rows, 64) -> which segments they meet, and how many flags each has in each column, (segment, 64).

        The same as sum, three times as fast: eight columns are added at once, as the bytes of a word, in stretches of
        at most 255 rows, so that no byte overflows.
        """
        which, starts = self.find(rows)
        stretches = np.union1d(starts, np.arange(0, len(flags), 255))
        of_stretches = np.add.reduceat(flags.view(np.uint64), stretches, axis=0).view(np.uint8)
        return which, np.add.reduceat(of_stretches, np.searchsorted(stretches, starts), axis=0, dtype=np.int64)


def _read(run: Run, array: Array, rows: slice, columns: slice) -> NDArray[Any]:
    return read_part(array, (rows, columns), f"{run.path}/{array.path}", verify_remedy(run.path))
