"""Checksums of the chunk files of a run, stored apart from these files.

The last four bytes of every chunk file are a CRC32C checksum of its content (in a shard, of its index), so that damage
inside a file is detected when it is read. They do not reveal that two intact files have changed places or that a file
is missing, which zarr reads as fill values. Each group therefore has an array `checksums` with a copy of these bytes,
and CheckedStore compares every file that is read with its copy. A copy of 0 means that the file was not finished.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import SuffixByteRequest
from zarr.storage import WrapperStore

from lca.store.blocks import ceil_div
from lca.store.schema import PARTIAL

Array = zarr.Array[Any]
Checksums = NDArray[np.uint32]

NAME = "checksums"
MAX_METADATA_BYTES = 64 * 2**20  # a table of 100,000 tensors takes about 20 MiB


class FileTable:
    """The files of some arrays of a group, and the cell of the array `checksums` that belongs to each.

    The row of a file is its chunk along the time axis, and each array has a range of columns for its files in a row.

    Args:
        arrays: The arrays, each with the axis that counts its iterations or iterates.
    """

    def __init__(self, arrays: Iterable[tuple[Array, int]]) -> None:
        self.columns: dict[str, tuple[int, int]] = {}
        self._axis: dict[str, int] = {}
        self._ndim: dict[str, int] = {}
        self.width = 0
        for array, axis in arrays:
            per_file = array.shards or array.chunks
            n_chunks = [ceil_div(n, max(m, 1)) for n, m in zip(array.shape, per_file, strict=True)]
            del n_chunks[axis]
            n_files = max(n_chunks, default=1)  # no array has more than one other axis with several chunks
            self.columns[array.path] = self.width, n_files
            self._axis[array.path], self._ndim[array.path] = axis, array.ndim
            self.width += n_files

    def locate(self, key: str) -> tuple[int, int] | None:
        """Return the row and column of the file with this key, or None if it belongs to another array."""
        array, _, coordinates = key.partition("/c/")
        if array not in self.columns:
            return None
        at = [int(coordinate) for coordinate in coordinates.split("/")]
        row, file = at.pop(self._axis[array]), max(at, default=0)
        return row, self.columns[array][0] + file

    def key(self, row: int, column: int) -> str:
        """Return the key of the file to which a cell belongs, the inverse of `locate`."""
        array = next(path for path, (begin, n) in self.columns.items() if begin <= column < begin + n)
        at = [0] * self._ndim[array]
        if len(at) > 1:
            at[0 if self._axis[array] else 1] = column - self.columns[array][0]
        at[self._axis[array]] = row
        return f"{array}/c/{'/'.join(map(str, at))}"


@dataclass
class Ledger:
    """The checksums of the files of one group, as far as they are known.

    Attributes:
        files: The files of the group.
        values: Their checksums, with shape (row, column). 0 if a file was not finished.
    """

    files: FileTable
    values: Checksums

    def find(self, key: str) -> int:
        """Return the checksum of the file with this key, or 0 if it is unknown."""
        at = self.files.locate(key)
        return int(self.values[at]) if at and at[0] < len(self.values) else 0

    async def reload(self, key: str) -> None:
        """Reread the checksum of the file with this key, because another process may have changed the file."""


class StoredLedger(Ledger):
    """A ledger that is stored as the array `checksums` of its group."""

    def __init__(self, stored: Array, files: FileTable, n_rows: int | None = None) -> None:
        super().__init__(files, np.asarray(stored[:]))
        self.stored = stored
        self._before: dict[int, Checksums] = {}
        expected = (len(self.values) if n_rows is None else n_rows, files.width)
        if self.values.shape != expected:
            raise ValueError(f"expected shape {expected}, found {self.values.shape}")

    def refresh(self, rows: list[int]) -> None:
        """Reread the checksums in these rows, because another process may have written their files."""
        for row in rows:
            self.values[row] = self.stored[row]

    def forget(self, rows: list[int]) -> None:
        """Set the checksums in these rows to 0, because their files are about to change."""
        for row in rows:
            self._before[row] = self.values[row].copy()
            if self.values[row].any():
                self.values[row] = self.stored[row] = 0

    def record(self, rows: list[int]) -> None:
        """Store the checksums of the files in these rows, some of which were written after the call to `forget`."""
        for row in rows:
            self.values[row] = self.stored[row] = self._find_row(row, self._before.pop(row))

    def extend(self, n_rows: int) -> None:
        """Append rows until there are `n_rows`, with the checksums of their files."""
        begin = self.stored.shape[0]
        if n_rows > begin:
            unknown = np.zeros(self.files.width, np.uint32)
            rows = np.array([self._find_row(row, unknown) for row in range(begin, n_rows)])
            self.stored.resize((n_rows, self.files.width))
            self.stored[begin:] = rows
            self.values = np.concatenate([self.values[:begin], rows])

    def _find_row(self, row: int, before: Checksums) -> Checksums:
        """Return the checksums of the files in a row. `before` contains those of the files that did not change."""
        store = checked_store(self.stored)
        keys = [self.files.key(row, column) for column in range(self.files.width)]
        found = [store.take_checksum(key, int(old)) for key, old in zip(keys, before, strict=True)]
        return np.array(found, np.uint32)

    def truncate(self, n_rows: int) -> None:
        """Remove all rows after the first `n_rows`."""
        if n_rows < self.stored.shape[0]:
            self.stored.resize((n_rows, self.files.width))
        self.values = self.values[:n_rows]

    async def reload(self, key: str) -> None:
        at = self.files.locate(key)
        if at and at[0] < len(self.values):
            self.values[at[0]] = await self.stored.async_array.getitem(at[0])


@dataclass
class _State:
    """What a CheckedStore knows, shared with its copies.

    Attributes:
        ledgers: The known checksums: of "weights", of "training", and of each allocation, by the path of its group.
        chunk_bytes: The size of an uncompressed chunk of each array that is compressed with Blosc, by its path.
        written: The checksums of the files that were written and whose checksums are not stored yet, by key.
    """

    ledgers: dict[str, Ledger] = field(default_factory=dict)
    chunk_bytes: dict[str, tuple[int, bool]] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)


class CheckedStore(WrapperStore[Any]):
    """A zarr store that compares the files it reads with their checksums, and notes the checksums of those it writes.

    Reading raises ValueError if a file is missing, is not the one that was written, or is larger than expected.
    """

    def __init__(self, store: Any, location: Any, state: _State | None = None) -> None:
        super().__init__(store)
        self.location, self.state = location, state or _State()

    def _with_store(self, store: Any) -> Self:
        return type(self)(store, self.location, self.state)

    def find(self, key: str) -> int:
        """Return the checksum of the file with this key, or 0 if it is unknown."""
        if key in self.state.written:
            return self.state.written[key]
        return next((found for ledger in self.state.ledgers.values() if (found := ledger.find(key))), 0)

    def take_checksum(self, key: str, before: int = 0) -> int:
        """Return the checksum of a file that was written through this store, and forget it.

        For any other file, return `before` unless it is 0. Otherwise read the checksum at the end of the file, and
        return 0 if the file is missing.
        """
        if known := self.state.written.pop(key, 0) or before:
            return known
        try:
            with (self.location / key).open() as file:
                return int.from_bytes(file.read()[-4:], "little")
        except FileNotFoundError:
            return 0

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        array, is_chunk, _ = key.partition("/c/")
        self.location.require_plain_below(key)
        content = await self._store.get(key, prototype, byte_range)
        expected_to_exist = not is_chunk or array.rpartition("/")[2] == NAME
        for delay in self.location.retry_s if expected_to_exist else ():
            if content is None:
                await asyncio.sleep(delay)
                content = await self._store.get(key, prototype, byte_range)
        if not is_chunk:
            if content is not None and len(content) > MAX_METADATA_BYTES:
                raise ValueError(f"{key} has {len(content):,} bytes, and at most {MAX_METADATA_BYTES:,} are allowed")
            return content
        if self._find_fault(key, content, byte_range):
            self.state.written.pop(key, None)
            for ledger in self.state.ledgers.values():
                await ledger.reload(key)
            content = await self._store.get(key, prototype, byte_range)
            if fault := self._find_fault(key, content, byte_range):
                raise ValueError(f"the file {key} is {fault}")
        if content is None:
            return None
        size, sharded = self.state.chunk_bytes.get(array, (0, False))
        if size and sharded == (byte_range is not None) and not isinstance(byte_range, SuffixByteRequest):
            header = content[:8].to_bytes()  # of the Blosc header; bytes 4 to 7 are the uncompressed size
            if (stated := int.from_bytes(header[4:], "little")) != size:
                raise ValueError(f"a chunk in {key} has {stated:,} bytes uncompressed instead of {size:,}")
        return content

    def _find_fault(self, key: str, content: Any, byte_range: Any) -> str:
        """Describe how a file's content disagrees with its checksum. Return "" if they agree or cannot be compared."""
        if not (expected := self.find(key)):
            return ""
        if content is None:
            return "missing"
        reads_end = byte_range is None or isinstance(byte_range, SuffixByteRequest)
        return "not the one that was written" if reads_end and _read_checksum(content) != expected else ""

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder, except for hidden and half-written files, which zarr would warn about."""
        async for name in self._store.list_dir(prefix):
            if PARTIAL not in name and not name.startswith("."):
                yield name

    async def set(self, key: str, value: Any) -> None:
        self.location.require_plain_below(key)
        await self._write(key, value)
        if "/c/" in key:
            self.state.written[key] = _read_checksum(value)

    async def _write(self, key: str, value: Any) -> None:
        for delay in self.location.busy_s:
            with suppress(PermissionError):
                await self._store.set(key, value)
                return
            await asyncio.sleep(delay)
        await self._store.set(key, value)


def checked_store(node: zarr.Group | Array) -> CheckedStore:
    """Return the store of a group or an array of a run."""
    store = node.store
    assert isinstance(store, CheckedStore)
    return store


def _read_checksum(content: Any) -> int:
    return int.from_bytes(content[len(content) - 4 :].to_bytes(), "little")
