"""Write a run: create its store, append iterates and add allocations.

The data of a block are written before the attribute `iterates` or the array `blocks` marks them as valid. A crash
therefore never leaves data that look finished but are not.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
from lca.store.names import require_name
from lca.store.parameters import ParameterTable
from lca.store.paths import Location, find_half_written, locate
from lca.store.run import Run, is_run, open_run, subgroup
from lca.store.schema import ARRAYS, NAN, OPTIONAL, SCHEMA


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

        await asyncio.gather(*(write_file(top) for top in range(0, K, height)))

    def commit(self, n_iterates: int, training: Mapping[str, NDArray[np.float64]]) -> None:
        """Declare the first `n_iterates` iterates valid, after writing the training scalars that belong to them.

        `training` maps names to the values of the most recent iterations. The last value of each belongs to the
        iteration that ends at the last iterate.
        """
        T = max(n_iterates - 1, 0)
        group = subgroup(self.run.group, "training")
        for name in training.keys() - set(group.array_keys()):
            require_name("name of a training scalar", name)
            create_array(group, name, "float64", (0,), (1024,), ("iteration",), NAN)
        for name, array in group.arrays():
            array.resize((T,))
            if name in training:
                array[T - len(training[name]) :] = training[name]
        self.set_attributes(iterates=n_iterates)

    def truncate(self, n_iterates: int) -> None:
        """Mark the run as unfinished. Delete the iterates after the first `n_iterates`, and all half-written files."""
        self.set_attributes(iterates=n_iterates, status="training")
        self.run.weights.resize((self.run.parameters.size, n_iterates))
        for array in self.run.training.values():
            array.resize((max(n_iterates - 1, 0),))
        for name in find_half_written(self.run.path):
            (self.run.path / name).remove()

    def finish(self) -> None:
        """Mark the run as complete."""
        consolidated.write(self.run.path)
        self.run.attributes |= {"status": "complete"}
        as_consolidated = zarr.open_group(self.run.path.zarr_store(), mode="r+")
        as_consolidated.attrs["lca"] = self.run.attributes

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
        require_name("name of an allocation", name)
        run = self.run
        if name in run.allocations:  # after a crash, what is left must not look finished
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
        """Set attributes of the run and keep all others."""
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
            path.remove()
    K = parameters.size
    length = block_length(K, np.dtype(dtype).itemsize)
    chunks = (min(CHUNK_PARAMETERS, K), length)
    with path.create_folder() as folder:  # created in one step, because half a store would block the next attempt
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
    """Raise UsageError if a run store cannot be created at this location."""
    path = locate(path)
    if path.is_free():
        return
    if not is_run(path):
        raise UsageError(f"{path} exists and is not a run store, so it is not replaced", remedy="Choose another path.")
    if not overwrite:
        replace = Argument("overwrite", True)
        raise UsageError(f"{path} already exists", remedy=("Choose another path, or pass ", replace, " to replace it."))
