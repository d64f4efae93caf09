"""The layout of arrays on disk: chunks, shards and codecs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import zarr
from numcodecs.bitround import BitRound
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from lca.errors import DamagedError, LCAError, Remedy, UsageError
from lca.store.blocks import ceil_div
from lca.store.paths import Location
from lca.store.schema import MANTISSA_BITS

CHUNK_PARAMETERS = 16_384
BLOCK = 64
BLOCK_BYTES = 256 * 2**20

# If a block has more than MAX_CHUNK_FILES chunks, CHUNKS_PER_FILE of them share one file (a zarr shard).
MAX_CHUNK_FILES = 64
CHUNKS_PER_FILE = 16

# Write even the chunks that contain only the fill value, so that a missing file in a finished block means lost data.
WRITE_ALL: Any = {"write_empty_chunks": True}

Array = zarr.Array[Any]

# The help of the codec option already says that pcodec is not part of the zarr specification, and zarr would warn about
# it in every call.
warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")


def _blosc(cname: str, clevel: int, blocksize: int) -> dict[str, Any]:
    codec = BloscCodec(cname=cname, clevel=clevel, shuffle="bitshuffle", blocksize=blocksize)  # type: ignore[arg-type]
    return {"compressors": [codec, Crc32cCodec()]}


def _pcodec() -> dict[str, Any]:
    from zarr.codecs.numcodecs import PCodec

    return {"serializer": PCodec(level=8), "compressors": [Crc32cCodec()]}


# All codecs are lossless and store a checksum. The levels were chosen on a real trajectory, where a higher zstd level
# is 5 times slower and saves only 3 % of the space. scripts/bench/record.py prints the speed and size of each codec.
CODECS: dict[str, Callable[[], dict[str, Any]]] = {
    "zstd": lambda: _blosc("zstd", 1, 2**20),
    "lz4": lambda: _blosc("lz4", 5, 2**18),
    "pcodec": _pcodec,
}


def block_length(K: int, itemsize: int = 4) -> int:
    """Return the block length for K parameters: the largest power of two, up to 64, whose block fits in 256 MiB."""
    length = BLOCK
    while length > 1 and itemsize * K * length > BLOCK_BYTES:
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


def create_array(
    group: zarr.Group,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dimensions: tuple[str, ...],
    fill: float,
    codec: str = "zstd",
) -> None:
    """Create an array filled with `fill`. If it has many chunks along its parameters, several share one file."""
    many = dimensions[0] in ("parameter", "packed") and ceil_div(shape[0], chunks[0]) > MAX_CHUNK_FILES
    shards = (CHUNKS_PER_FILE * chunks[0], *chunks[1:]) if many else None
    group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        fill_value=fill,
        dimension_names=dimensions,
        config=WRITE_ALL,
        **CODECS[codec](),
    )


@contextmanager
def detect_damage(name: str, remedy: Remedy = "") -> Iterator[None]:
    """Turn any exception while data or metadata are read into a DamagedError. `name` is what is read."""
    try:
        yield
    except (LCAError, MemoryError):  # no sign of damage, or already a DamagedError
        raise
    except Exception as error:  # zarr and its codecs raise many types of exceptions for damaged bytes
        why = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedError(f"{name} is damaged: {why}", remedy=remedy) from error


def read_part(array: Array, where: Any, name: str, remedy: Remedy = "") -> NDArray[Any]:
    """Read array[where] into memory. Raise DamagedError if it is damaged, with `name` as the name of this part."""
    with detect_damage(name, remedy):
        return np.asarray(array[where])


def open_array(group: zarr.Group, name: str, where: str, remedy: Remedy, ndim: int) -> Array:
    """Return an array of a group. Raise DamagedError if its metadata are damaged or do not have `ndim` dimensions."""
    with detect_damage(where, remedy):
        array = group[name]
        if not isinstance(array, zarr.Array) or array.ndim != ndim:
            raise ValueError(f"expected an array with {ndim} dimensions")
        return array


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
