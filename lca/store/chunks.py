"""How an array lies on disk: chunks, files and codecs; and how parts of it are read."""

import warnings
from collections.abc import Callable
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

# Where a block has more chunks than the first, every so many as the second says are kept in one file.
MAX_CHUNK_FILES = 64
CHUNKS_PER_FILE = 16

# Chunks of fill values are written too, so that a chunk that is not there is a chunk that was lost.
WRITE_ALL: Any = {"write_empty_chunks": True}

Array = zarr.Array[Any]

# The help of the codec option already says that pcodec is outside the specification; zarr would warn on every call.
warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")


def _blosc(cname: str, clevel: int, blocksize: int) -> dict[str, Any]:
    codec = BloscCodec(cname=cname, clevel=clevel, shuffle="bitshuffle", blocksize=blocksize)  # type: ignore[arg-type]
    return {"compressors": [codec, Crc32cCodec()]}


def _pcodec() -> dict[str, Any]:
    from zarr.codecs.numcodecs import PCodec

    return {"serializer": PCodec(level=8), "compressors": [Crc32cCodec()]}


# All are lossless and checksummed. The levels were chosen on a real trajectory: a higher one of zstd is 5 times slower
# for 3 % less; `scripts/bench/record.py` prints speed and size of each.
CODECS: dict[str, Callable[[], dict[str, Any]]] = {
    "zstd": lambda: _blosc("zstd", 1, 2**20),
    "lz4": lambda: _blosc("lz4", 5, 2**18),
    "pcodec": _pcodec,
}


def block_length(K: int, itemsize: int = 4) -> int:
    """How many iterates of K numbers make a block: 64, or the largest smaller power of two that stays under 256 MB."""
    length = BLOCK
    while length > 1 and itemsize * K * length > BLOCK_BYTES:
        length //= 2
    return length


def require_codec(name: str) -> None:
    """Raise unless the codec is known and can be used here."""
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
    """Create an array filled with `fill`, each of whose files belongs to a single block."""
    many = dimensions[0] in ("parameter", "packed") and ceil_div(shape[0], chunks[0]) > MAX_CHUNK_FILES
    shards = (CHUNKS_PER_FILE * chunks[0], *chunks[1:]) if many else None  # which never spans two blocks
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


def read_part(array: Array, where: Any, name: str, remedy: Remedy = "") -> NDArray[Any]:
    """array[where] in memory; DamagedError, which calls the part `name`, where its bytes are damaged."""
    try:
        return np.asarray(array[where])
    except LCAError:  # the location cannot be read at all
        raise
    except Exception as error:  # zarr and the codecs raise many kinds for damaged bytes
        raise DamagedError(f"{name} is damaged: {error}", remedy=remedy) from error


def find_missing_files(path: Location, array: Array) -> list[tuple[int, ...]]:
    """The coordinates of the files that an array at `path` should have on disk and lacks."""
    per_file = array.shards or array.chunks
    grid = [range(ceil_div(n, m)) for n, m in zip(array.shape, per_file, strict=True)]
    found = path.files()
    return [at for at in product(*grid) if array.metadata.encode_chunk_key(at) not in found]


def bytes_in_flight(array: Array) -> int:
    """The bytes, before compression, of the files of one block that zarr reads or writes at once, at most."""
    rows, length = array.shards or array.chunks
    n_rows = min(array.shape[0], int(zarr.config.get("async.concurrency")) * rows)
    return n_rows * length * int(array.dtype.itemsize)


def round_mantissa(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Round to this many bits of mantissa, which compresses better."""
    if bits == MANTISSA_BITS:
        return values
    return np.asarray(BitRound(bits).encode(values)).view(np.float32).reshape(values.shape)
