"""Writing a run: its iterates, their counts and its allocations.

What a block holds is written first and counted after (attribute `iterates`, array `blocks`), so that a crash leaves
nothing that looks finished and is not.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from lca.errors import Argument, UsageError
from lca.store import consolidated
from lca.store.allocation import Allocation
from lca.store.allocation_writer import AllocationWriter
from lca.store.chunks import CHUNK_PARAMETERS, block_length, create_array, require_codec
from lca.store.parameters import ParameterTable
from lca.store.paths import Location, half_written, locate
from lca.store.run import Run, is_run, open_run, subgroup
from lca.store.schema import ARRAYS, NAN, OPTIONAL, SCHEMA


class RunWriter:
    """Writes into a run that was opened with mode "r+"."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def lock(self, allocation: str = "") -> AbstractContextManager[object]:
        """The right to record into the store, or to write an allocation in it; at a URL everyone has it."""
        # Where no reader of zarr groups looks, and replacing an allocation does not remove it.
        return self.run.path.lock(f"weights/lock-{allocation}" if allocation else "weights/lock")

    async def write_iterates(self, begin: int, rows: NDArray[Any]) -> None:
        """Write the iterates begin … begin + n − 1, rows (n, K): a block of them, or the part of it that exists.

        They do not count before they are committed. The files of the block are made side by side, transposed and
        compressed in the threads of the caller's event loop.
        """
        n, K = rows.shape
        weights = self.run.weights.async_array
        await weights.resize((K, begin + n))
        height = (weights.shards or weights.chunks)[0]

        async def write_file(top: int) -> None:
            columns = await asyncio.to_thread(np.ascontiguousarray, rows[:, top : top + height].T)
            await weights.setitem((slice(top, min(top + height, K)), slice(begin, begin + n)), columns)

        await asyncio.gather(*(write_file(top) for top in range(0, K, height)))

    def commit(self, n_iterates: int, training: Mapping[str, NDArray[np.float64]]) -> None:
        """Count the first n_iterates, which are on disk, after writing scalars of the last iterations among them.

        training: by name, (iteration); the last value belongs to the iteration that led to the last iterate.
        """
        T = max(n_iterates - 1, 0)
        group = subgroup(self.run.group, "training")
        for name in training.keys() - set(group.array_keys()):
            create_array(group, name, "float64", (0,), (1024,), ("iteration",), NAN)
        for name, array in group.arrays():
            array.resize((T,))
            if name in training:
                array[T - len(training[name]) :] = training[name]
        self.set_attributes(iterates=n_iterates)

    def truncate(self, n_iterates: int) -> None:
        """Forget all iterates but the first n_iterates, and what a crash left half-written."""
        self.set_attributes(iterates=n_iterates, status="training")
        self.run.weights.resize((self.run.parameters.size, n_iterates))
        for array in self.run.training.values():
            array.resize((max(n_iterates - 1, 0),))
        for name in half_written(self.run.path):
            (self.run.path / name).remove()

    def finish(self) -> None:
        """Declare the run complete."""
        consolidated.write(self.run.path)
        self.run.attributes |= {"status": "complete"}
        as_consolidated = zarr.open_group(self.run.path.zarr_store(), mode="r+")
        as_consolidated.attrs["lca"] = self.run.attributes

    def reopen(self) -> None:
        """Declare the run unfinished, so that the training is resumed."""
        self.set_attributes(status="training")

    def create_allocation(
        self, name: str, attributes: Mapping[str, Any], optional: Collection[str] = ("lca",)
    ) -> Allocation:
        """Create an empty allocation in place of one of the same name; optional: those of OPTIONAL to include.

        With class_lca the attribute `classes` lists the labels of the classes.
        """
        run = self.run
        if name in run.allocations:  # what a crash leaves of it must not look finished
            AllocationWriter(run.allocation(name)).note("status", "creating")
        consolidated.drop(run.path)
        group = run.group.create_group(f"lca/{name}", overwrite=True)
        group.attrs["lca"] = {**attributes, "status": "creating"}
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
                create_array(group, array, dtype, shape, chunk, dimensions, fill)
        AllocationWriter(allocation).reopen()
        return allocation

    def set_attributes(self, **changes: Any) -> None:
        """Change attributes of the run."""
        self.run.attributes |= changes
        self.run.group.attrs["lca"] = self.run.attributes


def create_run(
    path: Location | Path | str,
    parameters: ParameterTable,
    attributes: Mapping[str, Any],
    *,
    dtype: str = "float32",
    codec: str = "zstd",
    overwrite: bool = False,
) -> RunWriter:
    """Create a run store without iterates. dtype: of the weights.

    An existing one is replaced only if it is a run store and overwrite is given.
    """
    require_codec(codec)
    path = locate(path)
    require_free(path, overwrite)
    if not path.is_free():
        old = RunWriter(open_run(path, "r+"))
        with old.lock():
            old.set_attributes(iterates=0, status="training")  # what a crash leaves of it must not look finished
            path.remove()
    K = parameters.size
    length = block_length(K, np.dtype(dtype).itemsize)
    chunks = (min(CHUNK_PARAMETERS, K), length)
    with path.create_folder() as folder:  # which then appears as a whole: half a store would block the next attempt
        group = zarr.create_group(folder)
        create_array(group, "weights", dtype, (K, 0), chunks, ("parameter", "iterate"), NAN, codec)
        group.create_group("training")
        group.attrs["lca"] = {
            "schema": SCHEMA,
            "versions": {name: version(name) for name in ("loss-change-allocation", "torch", "numpy", "zarr")},
            "status": "training",
            "iterates": 0,
            "block": length,
            "codec": codec,
            **attributes,
            "parameters": parameters.to_json(),
        }
    return RunWriter(open_run(path, "r+"))


def require_free(path: Location | Path | str, overwrite: bool = False) -> None:
    """Raise UsageError unless a run store can be created at this location."""
    path = locate(path)
    if path.is_free():
        return
    if not is_run(path):
        raise UsageError(f"{path} exists and is not a run store, so it is kept", remedy="Choose another path.")
    if not overwrite:
        replace = Argument("overwrite", True)
        raise UsageError(f"{path} exists already", remedy=("Choose another path, or pass ", replace, " to replace it."))
