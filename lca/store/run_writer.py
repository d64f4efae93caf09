"""Write a run: create its store, append iterates and add allocations.

The data of a block are written before the attribute `iterates` or the array `blocks` marks them as valid. A crash
therefore never leaves data that look finished but are not.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from lca.errors import Argument, DamagedError, UsageError
from lca.store import consolidated
from lca.store.allocation import Allocation
from lca.store.allocation_writer import AllocationWriter
from lca.store.attributes import write_attributes
from lca.store.blocks import ceil_div
from lca.store.checksums import FileTable, checked_store
from lca.store.chunks import (
    BLOCK,
    CHECKSUMS,
    CHUNK_PARAMETERS,
    SCALARS,
    ArrayFormat,
    block_length,
    detect_damage,
    require_codec,
    verify_remedy,
)
from lca.store.names import require_name
from lca.store.parameters import ParameterTable
from lca.store.paths import Location, locate, remove_half_written
from lca.store.run import Run, is_run, open_run
from lca.store.run_arrays import subgroup, weights_checksums
from lca.store.schema import ARRAYS, NAN, OPTIONAL, SCHEMA

SCALARS_CHUNK = 1024


class RunWriter:
    """Writer of a run that was opened with mode "r+"."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @contextmanager
    def lock(self, allocation: str = "") -> Iterator[None]:
        """Lock the run, or only one of its allocations, so that others can be written at the same time.

        At a URL, the lock has no effect.
        """
        # Readers of zarr groups do not list the folder of the locks, and replacing an allocation does not delete it.
        with ExitStack() as stack:
            stack.enter_context(self.run.path.lock("weights/lock", shared=bool(allocation)))
            if allocation:
                stack.enter_context(self.run.path.lock(f"weights/lock-{allocation}"))
            yield

    async def write_iterates(self, begin: int, rows: NDArray[Any]) -> None:
        """Write a block of iterates, or the part of it that exists so far.

        `rows` has shape (n, K) and holds the iterates begin … begin + n − 1, which become valid with `commit`. The
        files of the block are transposed, compressed and written concurrently in threads of the caller's event loop.
        """
        n, K = rows.shape
        weights = self.run.weights.async_array
        await weights.resize((K, begin + n))
        height = (weights.shards or weights.chunks)[0]

        async def write_file(top: int) -> None:
            columns = await asyncio.to_thread(np.ascontiguousarray, rows[:, top : top + height].T)
            await weights.setitem((slice(top, min(top + height, K)), slice(begin, begin + n)), columns)

        with detect_damage(f"{self.run.path}/weights", verify_remedy(self.run.path), ValueError):
            await asyncio.gather(*(write_file(top) for top in range(0, K, height)))

    def commit(self, n_iterates: int, training: Mapping[str, NDArray[np.float64]]) -> None:
        """Declare the first `n_iterates` iterates valid, after writing the training scalars that belong to them.

        `training` maps names to the values of the most recent iterations. The last value of each belongs to the
        iteration that ends at the last iterate.
        """
        T = max(n_iterates - 1, 0)
        group = subgroup(self.run.group, "training")
        for name in sorted(training.keys() - set(group.array_keys())):
            require_name("name of a training scalar", name, group.array_keys())
            SCALARS.create(group, name, (self.run.n_iterations,), (SCALARS_CHUNK,))[:] = NAN
        arrays = self.run.training
        for name, array in arrays.items():
            array.resize((T,))
            if name in training:
                array[T - len(training[name]) :] = training[name]
        weights_checksums(self.run.weights).extend(n_iterates // self.run.blocks.length)
        checksums = self._find_training_checksums(arrays, T // SCALARS_CHUNK)
        self.set_attributes(iterates=n_iterates, training_checksums=checksums)

    def _find_training_checksums(self, names: Iterable[str], n_files: int) -> dict[str, list[int]]:
        """Return the checksums of the first `n_files` files of each of these training scalars."""
        store, known = checked_store(self.run.group), self.run.attributes.get("training_checksums", {})
        found = {name: known.get(name, [])[:n_files] for name in names}
        for name, checksums in found.items():
            new = range(len(checksums), n_files)
            checksums += [store.take_checksum(f"training/{name}/c/{file}") for file in new]
        return found

    def truncate(self, n_iterates: int) -> None:
        """Mark the run as unfinished. Delete the iterates after the first `n_iterates`, and all half-written files."""
        T = max(n_iterates - 1, 0)
        known = self.run.attributes.get("training_checksums", {})
        kept = {name: checksums[: T // SCALARS_CHUNK] for name, checksums in known.items()}
        self.set_attributes(iterates=n_iterates, status="training", training_checksums=kept)
        self.run.weights.resize((self.run.parameters.size, n_iterates))
        weights_checksums(self.run.weights).truncate(n_iterates // self.run.blocks.length)
        for array in self.run.training.values():
            array.resize((T,))
        remove_half_written(self.run.path)

    def clear_scalar(self, name: str, file: int) -> None:
        """Replace the values of a training scalar in one of its files by NaN, because they cannot be read."""
        self.run.training[name][file * SCALARS_CHUNK : (file + 1) * SCALARS_CHUNK] = NAN
        checksums = self.run.attributes.get("training_checksums", {})
        if file < len(checksums.get(name, [])):
            checksums[name][file] = checked_store(self.run.group).take_checksum(f"training/{name}/c/{file}")
        self.set_attributes(training_checksums=checksums)

    def finish(self) -> None:
        """Mark the run as complete."""
        weights_checksums(self.run.weights).extend(len(self.run.iterate_blocks))
        n_files = ceil_div(self.run.n_iterations, SCALARS_CHUNK)
        checksums = self._find_training_checksums(self.run.training, n_files)
        consolidated.write(self.run.path)
        self.run.attributes |= {"status": "complete", "training_checksums": checksums}
        as_consolidated = zarr.open_group(self.run.path.zarr_store(), mode="r+")
        write_attributes(as_consolidated.attrs, self.run.attributes)

    def reopen(self) -> None:
        """Mark the run as unfinished, so that training can be resumed."""
        self.set_attributes(status="training")

    def create_allocation(
        self, name: str, attributes: Mapping[str, Any], optional: Collection[str] = ("lca",)
    ) -> Allocation:
        """Create an empty allocation, replacing any existing one with the same name.

        `optional` names the arrays of OPTIONAL to include. With "class_lca", the attribute `classes` must list the
        labels of the classes.
        """
        run = self.run
        require_name("name of an allocation", name, run.allocations)
        if name in run.allocations:
            with suppress(DamagedError):
                AllocationWriter(run.allocation(name)).note("status", "creating")
            for array in (run.path / f"lca/{name}").folders():  # so that after a crash, its remains look unfinished
                (run.path / f"lca/{name}/{array}").remove()
        consolidated.drop(run.path)
        group = run.group.create_group(f"lca/{name}", overwrite=True)
        write_attributes(group.attrs, {**attributes, "status": "creating"})
        allocation = Allocation(run.path, group, run.parameters, run.blocks)
        sizes, length = allocation.sizes, run.blocks.length
        chunks = {
            **sizes,
            "parameter": min(CHUNK_PARAMETERS, sizes["parameter"]),
            "packed": min(CHUNK_PARAMETERS, sizes["packed"]),
            "iteration": length,
            "iterate": length,
            "block": 1,
        }
        for array, (dtype, dimensions, fill) in ARRAYS.items():
            if array not in OPTIONAL or array in optional:
                shape, chunk = tuple(sizes[d] for d in dimensions), tuple(chunks[d] for d in dimensions)
                ArrayFormat(dtype, dimensions, fill).create(group, array, shape, chunk)
        width = allocation.opened.files.width
        CHECKSUMS.create(group, "checksums", (ceil_div(sizes["iterate"], length), width), (1, max(width, 1)))
        AllocationWriter(allocation).reopen()
        return allocation

    def set_attributes(self, **changes: Any) -> None:
        """Set attributes of the run and keep all others."""
        self.run.attributes |= changes
        write_attributes(self.run.group.attrs, self.run.attributes)


def create_run(
    path: Location | Path | str,
    parameters: ParameterTable,
    attributes: Mapping[str, Any],
    *,
    dtype: str = "float32",
    codec: str = "zstd",
    overwrite: bool = False,
) -> RunWriter:
    """Create a run store without iterates, and return a writer for it.

    `dtype` and `codec` are those of the weights. Existing data are replaced only if they are a run store and
    `overwrite` is True.
    """
    require_codec(codec)
    path = locate(path)
    require_free(path, overwrite)
    if not path.is_free():
        old = RunWriter(open_run(path, "r+"))
        with old.lock():
            old.set_attributes(iterates=0, status="training")  # so that what a crash leaves never looks finished
            with suppress(PermissionError):  # on Windows, the file of the lock cannot be deleted while it is open
                path.remove()
        path.remove()
    K = parameters.size
    length = block_length(K, np.dtype(dtype).itemsize)
    chunks = (min(CHUNK_PARAMETERS, K), length)
    with path.create_folder() as folder:  # created in one step, because half a store would block the next attempt
        group = zarr.create_group(folder)
        weights = ArrayFormat(dtype, ("parameter", "iterate"), NAN, codec).create(group, "weights", (K, 0), chunks)
        width = FileTable([(weights, 1)]).width
        CHECKSUMS.create(group, "checksums", (0, width), (BLOCK, max(width, 1)))
        group.create_group("training")
        about = {
            "schema": SCHEMA,
            "versions": {name: version(name) for name in ("loss-change-allocation", "torch", "numpy", "zarr")},
            "status": "training",
            "iterates": 0,
            "block": length,
            "codec": codec,
            **attributes,
            "parameters": parameters.to_json(),
        }
        write_attributes(group.attrs, about)
    return RunWriter(open_run(path, "r+"))


def require_free(path: Location | Path | str, overwrite: bool = False) -> None:
    """Raise UsageError if a run store cannot be created at this location."""
    path = locate(path)
    if path.is_free():
        return
    if not is_run(path):
        raise UsageError(f"{path} exists and is not a run store, so it is not replaced", remedy="Choose another path.")
    if not overwrite:
        replace = Argument("overwrite", True)
        raise UsageError(f"{path} already exists", remedy=("Choose another path, or pass ", replace, " to replace it."))
