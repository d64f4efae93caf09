"""The large arrays in tiles: strips of the parameters, of each 64 iterations at a time, in order of time.

Each file is read once, ahead of its use. What is in memory are two rows of files, 64 iterations long, whatever K and T.
Between two tiles of a strip come those of its neighbours in the same file.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lca.errors import LCAError
from lca.store.chunks import Array, missing_files
from lca.store.parameters import ParameterTable
from lca.store.run import Run

STRIP = 8_192  # parameters in a tile: what is done with it finds it in the processor's cache
WINDOW = 64  # columns of a tile: the bits of a word; blocks, of 64 iterations or a smaller power of two, divide it

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Tile:
    """A strip of an array (parameter, iteration) or (parameter, iterate), in at most 64 successive columns.

    rows, columns: where it lies. values: (rows, columns). first, last: whether it begins or ends its strip, so that
    what is carried along it (kept by rows.start) begins anew, or is done. counted: (columns,) which of them count.
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
        """helped, a word a row."""
        return words(self.helped)

    @cached_property
    def hurt_words(self) -> Words:
        return words(self.hurt)

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
    """What takes the tiles of one array, those of a strip in order of time."""

    def add(self, tile: Tile) -> None: ...


def feed(run: Run, array: Array, counted: NDArray[np.bool_] | None, consumers: Sequence[Consumer]) -> None:
    """Read an array of a run once, and hand each tile of it to all consumers."""
    for tile in tiles(run, array, counted) if consumers else ():
        for consumer in consumers:
            consumer.add(tile)


def tiles(run: Run, array: Array, counted: NDArray[np.bool_] | None = None) -> Iterator[Tile]:
    """The tiles of an array of a run, the next pieces being read meanwhile. counted: (columns,); all of them if None.

    Raises LCAError where a file is damaged or missing, which would read as values that were never there.
    """
    height, length = array.shape
    counted = np.ones(length, bool) if counted is None else counted
    (tall, wide), high = array.shards or array.chunks, min(array.chunks[0], STRIP)
    # Where nothing counts there may be no file yet: an allocation that was interrupted has not begun it.
    missing = [
        at for _, at in missing_files(run.path / array.path, array) if counted[at * wide : (at + 1) * wide].any()
    ]
    if missing:
        raise _damaged(run, array, f"{len(missing)} of its files are missing")
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


def words(flags: NDArray[np.bool_]) -> Words:
    """(rows, 64) -> a word a row, the first column in its lowest bit."""
    return np.packbits(flags.ravel(), bitorder="little").view("<u8").astype(np.uint64, copy=False)


class Segments:
    """Stretches of successive parameters, such as those of each tensor. bounds: where each begins, and where the last
    ends, ascending."""

    def __init__(self, bounds: ArrayLike) -> None:
        self.bounds = np.asarray(bounds, np.int64)

    @classmethod
    def of_tensors(cls, table: ParameterTable) -> "Segments":
        return cls([*(parameter.offset for parameter in table), table.size])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def within(self, rows: slice) -> tuple[slice, NDArray[np.int64]]:
        """Which segments meet the rows, and where each of them begins, counted from the first row."""
        first = int(np.searchsorted(self.bounds, rows.start, "right")) - 1
        end = int(np.searchsorted(self.bounds, rows.stop, "left"))
        return slice(first, end), np.maximum(self.bounds[first:end] - rows.start, 0)

    def sums(self, rows: slice, values: NDArray[Any], dtype: Any) -> tuple[slice, NDArray[Any]]:
        """values (rows, …) -> which segments they meet, and the sums over the part of each that is in rows."""
        which, starts = self.within(rows)
        return which, np.add.reduceat(values, starts, axis=0, dtype=dtype)

    def counts(self, rows: slice, flags: NDArray[np.bool_]) -> tuple[slice, NDArray[np.int64]]:
        """flags (rows, 64) -> which segments they meet, and how many flags each has in each column, (segment, 64).

        The same as sums, three times as fast: eight columns are added at once, as the bytes of a word, in stretches of
        at most 255 rows, so that no byte overflows.
        """
        which, starts = self.within(rows)
        stretches = np.union1d(starts, np.arange(0, len(flags), 255))
        of_stretches = np.add.reduceat(flags.view(np.uint64), stretches, axis=0).view(np.uint8)
        return which, np.add.reduceat(of_stretches, np.searchsorted(stretches, starts), axis=0, dtype=np.int64)


def _read(run: Run, array: Array, rows: slice, columns: slice) -> NDArray[Any]:
    try:
        return np.asarray(array[rows, columns])
    except LCAError:
        raise
    except Exception as error:  # zarr and the codecs raise many kinds for damaged bytes
        raise _damaged(run, array, str(error)) from error


def _damaged(run: Run, array: Array, why: str) -> LCAError:
    return LCAError(f"{run.path}/{array.path} is damaged: {why}. See `lca verify {run.path}`.")
