"""The layout of arrays on disk: chunks, shards and codecs."""

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from math import prod
from typing import Any

import numpy as np
import zarr
from numcodecs.bitround import BitRound
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from lca.errors import NO_THREAD, Call, DamagedError, LCAError, Remedy, UsageError
from lca.store.blocks import ceil_div
from lca.store.checksums import Array, checked_store
from lca.store.paths import Location
from lca.store.schema import MANTISSA_BITS, MAX_BLOCK

CHUNK_PARAMETERS = 16_384
BLOCK = 64
LONGEST_BLOCK = MAX_BLOCK
SMALL_BLOCK_BYTES = 2**20
PARTIAL_S = 30.0  # seconds after which a block of more than BLOCK iterations is written before it is complete
BLOCK_BYTES = 256 * 2**20

# Errors of the operating system that say nothing about the store.
SYSTEM_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}

# If a block has more than MAX_CHUNK_FILES chunks, CHUNKS_PER_FILE of them share one file (a zarr shard).
MAX_CHUNK_FILES = 64
CHUNKS_PER_FILE = 16

# Write even the chunks that contain only the fill value, so that a missing file in a finished block means lost data.
WRITE_ALL: Any = {"write_empty_chunks": True}

# The help of the codec option already says that pcodec is not part of the zarr specification, and zarr would warn about
# it in every call.
warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")


def _blosc(cname: str, clevel: int, blocksize: int) -> dict[str, Any]:
    codec = BloscCodec(cname=cname, clevel=clevel, shuffle="shuffle", blocksize=blocksize)  # type: ignore[arg-type]
    return {"compressors": [codec, Crc32cCodec()]}


def _pcodec() -> dict[str, Any]:
    from zarr.codecs.numcodecs import PCodec

    return {"serializer": PCodec(level=8), "compressors": [Crc32cCodec()]}


# All codecs are lossless and store a checksum. The levels were chosen on real trajectories, where a higher zstd level
# is 2 to 5 times slower and saves only 3 % of the space. Sorting by bytes is as good as sorting by bits, twice as fast
# to compress and three times as fast to read. scripts/bench/record.py prints the speed and size of each codec.
CODECS: dict[str, Callable[[], dict[str, Any]]] = {
    "zstd": lambda: _blosc("zstd", 1, 2**20),
    "lz4": lambda: _blosc("lz4", 5, 2**18),
    "pcodec": _pcodec,
}


@dataclass(frozen=True)
class ArrayFormat:
    """The format of an array, which does not depend on its shape.

    Attributes:
        dtype: Name of the dtype.
        dimensions: Names of the dimensions.
        fill: Value of elements that have not been written.
        codec: Name of the codec, one of CODECS.
    """

    dtype: str
    dimensions: tuple[str, ...]
    fill: float
    codec: str = "zstd"

    def create(self, group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Array:
        """Create an array filled with `fill`, laid out so that no file spans two blocks."""
        many = self.dimensions[0] in ("parameter", "packed") and ceil_div(shape[0], chunks[0]) > MAX_CHUNK_FILES
        shards = (CHUNKS_PER_FILE * chunks[0], *chunks[1:]) if many else None
        return self._create(group, name, shape, chunks, shards)

    def require_same(self, array: Array) -> None:
        """Raise ValueError if an array has another format. Only its shape, chunks and shards may be chosen freely."""
        expected = _find_expected_metadata(self, array.shape, array.chunks, array.shards)
        found = array.metadata.to_dict()
        for key in expected.keys() | found.keys():
            if repr(expected.get(key)) != repr(found.get(key)):  # repr, because NaN differs from itself
                raise ValueError(f"expected {key} {expected.get(key)}, found {found.get(key)}")

    def _create(self, group: zarr.Group, name: str, shape: Any, chunks: Any, shards: Any) -> Array:
        return group.create_array(
            name,
            shape=shape,
            dtype=self.dtype,
            chunks=chunks,
            shards=shards,
            fill_value=self.fill,
            dimension_names=self.dimensions,
            config=WRITE_ALL,
            **CODECS[self.codec](),
        )


@lru_cache(maxsize=1_000)  # a command opens the same arrays several times
def _find_expected_metadata(form: ArrayFormat, shape: Any, chunks: Any, shards: Any) -> dict[str, Any]:
    return form._create(zarr.create_group({}), "array", shape, chunks, shards).metadata.to_dict()


CHECKSUMS = ArrayFormat("uint32", ("chunk", "file"), 0)
SCALARS = ArrayFormat("float64", ("iteration",), float("nan"))  # recorded during training


def block_length(K: int, itemsize: int = 4) -> int:
    """Return the block length for K parameters, a power of two: the largest whose block of iterates fits in 256 MiB.

    It is at most 64, unless K is so small that a longer block, of at most 1,024 iterates, fits in 1 MiB.
    """
    length = LONGEST_BLOCK
    while length > 1 and itemsize * K * length > (SMALL_BLOCK_BYTES if length > BLOCK else BLOCK_BYTES):
        length //= 2
    return length


def require_codec(name: str) -> None:
    """Raise UsageError if the codec is unknown or needs a package that is not installed."""
    if name not in CODECS:
        raise UsageError("codec", expected=f"one of {', '.join(CODECS)}", found=repr(name))
    if name == "pcodec" and not find_spec("pcodec"):
        raise UsageError(
            "the codec pcodec needs a package that is not installed",
            remedy="Install it with: pip install 'loss-change-allocation[pcodec]'",
        )


@contextmanager
def detect_damage(name: str, remedy: Remedy = "", kind: type[Exception] = Exception) -> Iterator[None]:
    """Turn exceptions of type `kind`, raised while data or metadata are read, into a DamagedError.

    `name` describes what is read.
    """
    try:
        yield
    except (LCAError, MemoryError):  # no sign of damage, or already a DamagedError
        raise
    except kind as error:
        if getattr(error, "errno", None) in SYSTEM_ERRORS or str(error) == NO_THREAD:
            raise
        # zarr and its codecs raise many types of exceptions for damaged bytes.
        why = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedError(f"{name} is damaged: {why}", remedy=remedy) from error


class GuardedArray(zarr.Array[Any]):
    """An array of a run. Reading and changing parts of it raises DamagedError if they are damaged."""

    def get_basic_selection(self, *arguments: Any, **options: Any) -> Any:
        with self._detect_damage():
            return super().get_basic_selection(*arguments, **options)

    def get_orthogonal_selection(self, *arguments: Any, **options: Any) -> Any:
        with self._detect_damage():
            return super().get_orthogonal_selection(*arguments, **options)

    def get_coordinate_selection(self, *arguments: Any, **options: Any) -> Any:
        with self._detect_damage():
            return super().get_coordinate_selection(*arguments, **options)

    def get_mask_selection(self, *arguments: Any, **options: Any) -> Any:
        with self._detect_damage():
            return super().get_mask_selection(*arguments, **options)

    def set_basic_selection(self, *arguments: Any, **options: Any) -> None:
        with self._detect_damage(ValueError):
            super().set_basic_selection(*arguments, **options)

    def set_orthogonal_selection(self, *arguments: Any, **options: Any) -> None:
        with self._detect_damage(ValueError):
            super().set_orthogonal_selection(*arguments, **options)

    @contextmanager
    def _detect_damage(self, kind: type[Exception] = Exception) -> Iterator[None]:
        location = checked_store(self).location
        with detect_damage(f"{location}/{self.path}", verify_remedy(location), kind):
            yield


def verify_remedy(path: object) -> Remedy:
    """Return the remedy for errors about damaged data, which refers to `lca.verify`."""
    return ("To find all damaged parts, use ", Call("verify", path), ".")


def read_part(array: Array, where: Any, name: str, remedy: Remedy = "") -> NDArray[Any]:
    """Read array[where] into memory. Raise DamagedError if it is damaged, with `name` as the name of this part."""
    with detect_damage(name, remedy):
        try:
            return np.asarray(array[where])
        except DamagedError as error:
            raise error.__cause__ or error from None


def open_array(
    group: zarr.Group, name: str, where: str, remedy: Remedy, form: ArrayFormat, block: int | None = None
) -> Array:
    """Return an array of a group. Raise DamagedError if its metadata are damaged or not in this format.

    `block` is the number of iterations or iterates in a chunk.
    """
    with detect_damage(where, remedy):
        array = group[name]
        if not isinstance(array, zarr.Array):
            raise ValueError("expected an array, found a group")
        if array.ndim != len(form.dimensions):
            raise ValueError(f"expected {len(form.dimensions)} dimensions, found {array.ndim}")
        require_codec(form.codec)
        form.require_same(array)
        for dimension, length in zip(form.dimensions, array.chunks, strict=True):
            largest = {"parameter": CHUNK_PARAMETERS, "packed": CHUNK_PARAMETERS}.get(dimension, length)
            if length > largest or (block and dimension in ("iteration", "iterate") and length != block):
                raise ValueError(f"its chunks have length {length} along dimension {dimension!r}")
        if form.codec != "pcodec":
            size = prod(array.chunks) * array.dtype.itemsize
            checked_store(group).state.chunk_bytes[array.path] = size, array.shards is not None
        return GuardedArray(array.with_config(WRITE_ALL).async_array)  # zarr does not store this setting


def find_missing_files(path: Location, array: Array) -> list[tuple[int, ...]]:
    """Return the chunk (or shard) coordinates of all files that are missing from the array at `path`."""
    per_file = array.shards or array.chunks
    grid = [range(ceil_div(n, m)) for n, m in zip(array.shape, per_file, strict=True)]
    found = path.files()
    return [at for at in product(*grid) if array.metadata.encode_chunk_key(at) not in found]


def bytes_in_flight(array: Array) -> int:
    """Return an upper bound on the uncompressed bytes of one block that zarr reads or writes concurrently."""
    rows, length = array.shards or array.chunks
    n_rows = min(array.shape[0], int(zarr.config.get("async.concurrency")) * rows)
    return n_rows * length * int(array.dtype.itemsize)


def round_mantissa(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Round values to `bits` mantissa bits, so that they can be compressed better."""
    if bits == MANTISSA_BITS:
        return values
    return np.asarray(BitRound(bits).encode(values)).view(np.float32).reshape(values.shape)
