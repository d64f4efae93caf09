"""The run store: one zarr v3 group per run; the schema, and what is read and written.

    RUN.zarr/
      attributes["lca"]   what was trained and how, the parameter table, the status
      weights             (parameter, iterate)   every θ_t
      training/           (iteration)            what the optimizer saw
      lca/NAME/           one allocation, see lca.arrays

The same file repeats the metadata of all of them while nothing changes, see lca.consolidated. scripts/guide/store.md
describes the store for readers without lca.

Iterates and iterations come in blocks (64 of them, fewer where K is large): the unit of writing. Every array is chunked
so that a block is whole chunks; what a block holds is written first and counted (attribute `iterates`, array `blocks`)
after, so that a crash leaves nothing that looks finished and is not.
"""

import asyncio
import hashlib
import json
import shlex
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from lca import consolidated
from lca.arrays import ARRAYS, NAN, OPTIONAL, Allocation
from lca.errors import LCAError, UsageError
from lca.layout import CHUNK_PARAMETERS, Array, block_length, create_array, require_codec
from lca.location import ROOT, Location, locate
from lca.parameters import ParameterTable, common_dtype

if TYPE_CHECKING:
    from torch import Tensor
    from xarray import Dataset

SCHEMA = 1


class Run:
    """A run store. Arrays are zarr's own: slice them to read; nothing is loaded before."""

    def __init__(self, path: Location, group: zarr.Group) -> None:
        self.path, self.group = path, group
        self.attributes: dict[str, Any] = dict(group.attrs["lca"])  # type: ignore[arg-type]
        self.parameters = ParameterTable.from_json(self.attributes["parameters"])

    @cached_property
    def weights(self) -> Array:
        """Every iterate, (parameter, iterate); float32, or float64 for a model that is."""
        return self._array("weights")

    @property
    def training(self) -> dict[str, Array]:
        """What the optimizer saw, float64 (iteration) each: the mini-batch loss, the learning rate, …"""
        return dict(_subgroup(self.group, "training").arrays())

    @property
    def status(self) -> str:
        """ "training" until the last iterate is on disk, then "complete"."""
        return str(self.attributes["status"])

    @property
    def block(self) -> int:
        """Iterations in a block."""
        return int(self.attributes["block"])

    @property
    def n_iterates(self) -> int:
        """Iterates on disk."""
        return int(self.attributes["iterates"])

    @property
    def n_iterations(self) -> int:
        """T: steps between the iterates on disk."""
        return max(self.n_iterates - 1, 0)

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each dimension of an allocation."""
        T = self.n_iterations
        return {
            "parameter": self.parameters.size,
            "iteration": T,
            "iterate": T + 1,
            "tensor": len(self.parameters),
            "block": -(-T // self.block),
        }

    def require_same_model(self, tensors: "Mapping[str, Tensor]", table: ParameterTable, what: str) -> None:
        """Raise unless these are the parameters that were recorded, in numbers of the same width."""
        self.parameters.require_same(table, str(self.path), what)
        found, wanted = str(common_dtype(tensors.values())).removeprefix("torch."), self.weights.dtype.name
        if found != wanted:
            raise LCAError(f"{self.path} was recorded in {wanted}, and {what} is in {found}. Give one in {wanted}.")

    @property
    def n_unmoved(self) -> int:
        """Iterations that changed no parameter, such as a step that a gradient scaler skipped."""
        moved = self.training.get("moved")
        return 0 if moved is None else int((np.asarray(moved[:]) == 0).sum())

    @property
    def allocations(self) -> list[str]:
        """The names of the allocations in the store."""
        if "lca" not in self.group:
            return []
        # One that was cut short before it began counts as not there.
        groups = _subgroup(self.group, "lca").groups()
        return sorted(name for name, group in groups if _status(group) != "creating")

    def allocation(self, name: str = "train") -> "Allocation":
        if name not in self.allocations:
            known = f"it has {', '.join(self.allocations)}" if self.allocations else "it has none yet"
            option = "" if name == "train" else f" --split {name}" if name in ("val", "test") else f" --name {name}"
            command = f"lca allocate {self.path}{option}{self.again}"
            raise LCAError(f"{self.path} has no allocation {name!r}; {known}. Make it with `{command}`.")
        return Allocation(self, _subgroup(self.group, f"lca/{name}"))

    def to_xarray(self, name: str = "train") -> "Dataset":
        """An allocation as an xarray.Dataset, each array read as it is used.

        Coordinates: iteration and iterate by number; tensor by name, with layer beside it; class by label.
        """
        if find_spec("xarray") is None:
            raise UsageError("xarray is a package of its own: pip install 'loss-change-allocation[xarray]'.")
        from xarray import open_zarr

        allocation = self.allocation(name)
        coordinates = {
            "iteration": np.arange(self.n_iterations),
            "iterate": np.arange(self.n_iterates),
            "tensor": [parameter.name for parameter in self.parameters],
            "layer": ("tensor", [parameter.layer for parameter in self.parameters]),
        }
        if "class_lca" in allocation.arrays:
            coordinates["class"] = allocation.attributes["classes"]
        stored = open_zarr(self.path.zarr_store(), group=f"lca/{name}", consolidated=False, chunks=None)
        data: Dataset = stored.assign_coords(coordinates)
        return data

    @property
    def again(self) -> str:
        """What a command that needs the model takes besides, where the problem is said to be in a file or a module."""
        problem = str(self.attributes.get("problem", ""))
        return f" --problem {shlex.quote(problem)}" if ":" in problem else ""

    def disk_bytes(self, name: str = "") -> int:
        """The size of the store's files, or of those of one array or group."""
        return sum((self.path / name if name else self.path).files().values())

    def free_bytes(self) -> int | None:
        """What is free on the disk of the store; None if it is not on a disk."""
        return self.path.free_bytes()

    @property
    def half_written(self) -> list[str]:
        """The files that an interrupted process left; nothing reads them."""
        return [name for name in self.path.files() if name.endswith(".partial")]

    def lock(self, allocation: str = "") -> AbstractContextManager[object]:
        """The right to record into this store, or to write an allocation in it; at a URL everyone has it."""
        # Where no reader of zarr groups wonders about the file, and making an allocation anew does not remove it.
        return self.path.lock(f"weights/lock-{allocation}" if allocation else "weights/lock")

    def iterates(self, block: int, parameters: slice = slice(None)) -> NDArray[Any]:
        """The iterates of one block, (parameter, iterate), of all parameters or some."""
        begin = block * self.block
        try:
            return np.asarray(self.weights[parameters, begin : min(begin + self.block, self.n_iterates)])
        except LCAError:
            raise
        except Exception as error:  # zarr and the codecs raise many kinds for damaged bytes
            raise LCAError(
                f"block {block} of {self.path}/weights is damaged ({error}). See `lca verify {self.path}`."
            ) from error

    async def write_iterates(self, begin: int, rows: NDArray[Any]) -> None:
        """Write the iterates begin … begin + n − 1, rows (n, K): a block of them, or what there is of the last one.

        They do not count before they are committed. The files of the block are made side by side, transposed and
        compressed in the threads of the caller's event loop.
        """
        n, K = rows.shape
        weights = self.weights.async_array
        await weights.resize((K, begin + n))
        height = (weights.shards or weights.chunks)[0]

        async def write_file(top: int) -> None:
            columns = await asyncio.to_thread(np.ascontiguousarray, rows[:, top : top + height].T)
            await weights.setitem((slice(top, min(top + height, K)), slice(begin, begin + n)), columns)

        await asyncio.gather(*(write_file(top) for top in range(0, K, height)))

    def commit(self, n_iterates: int, training: Mapping[str, NDArray[np.float64]]) -> None:
        """Count the first n_iterates, which are on disk, after writing scalars of the last iterations among them.

        training: by name, (iteration); the last value is of the iteration that led to the last iterate.
        """
        T = max(n_iterates - 1, 0)
        group = _subgroup(self.group, "training")
        for name in training.keys() - set(group.array_keys()):
            create_array(group, name, "float64", (0,), (1024,), ("iteration",), NAN)
        for name, array in group.arrays():
            array.resize((T,))
            if name in training:
                array[T - len(training[name]) :] = training[name]
        self._set(iterates=n_iterates)

    def truncate(self, n_iterates: int) -> None:
        """Forget all iterates but the first n_iterates, and what a crash left half-written."""
        self._set(iterates=n_iterates, status="training")
        self.weights.resize((self.parameters.size, n_iterates))
        for array in self.training.values():
            array.resize((max(n_iterates - 1, 0),))
        for name in self.half_written:
            (self.path / name).remove()

    def finish(self) -> None:
        consolidated.write(self.path)
        self.attributes |= {"status": "complete"}
        as_consolidated = zarr.open_group(self.path.zarr_store(), mode="r+")
        as_consolidated.attrs["lca"] = self.attributes

    def reopen(self) -> None:
        """Not complete after all: the training has to be resumed."""
        self._set(status="training")

    def create_allocation(
        self, name: str, attributes: Mapping[str, Any], optional: Collection[str] = ("lca",)
    ) -> "Allocation":
        """An allocation with nothing in it yet, in place of one of the same name; optional: those of OPTIONAL to have.

        With class_lca the attribute `classes` lists the labels of the classes.
        """
        if name in self.allocations:
            self.allocation(name).note("status", "creating")  # or what a crash leaves of it would look finished
        consolidated.drop(self.path)
        group = self.group.create_group(f"lca/{name}", overwrite=True)
        group.attrs["lca"] = {**attributes, "status": "creating"}
        allocation = Allocation(self, group)
        sizes = allocation.sizes
        chunks = {
            **sizes,
            "parameter": min(CHUNK_PARAMETERS, sizes["parameter"]),
            "packed": min(CHUNK_PARAMETERS, sizes["packed"]),
            "iteration": self.block,
            "iterate": self.block,
            "block": 1,
        }
        for array, (dtype, dimensions, fill) in ARRAYS.items():
            if array not in OPTIONAL or array in optional:
                shape, chunk = tuple(sizes[d] for d in dimensions), tuple(chunks[d] for d in dimensions)
                create_array(group, array, dtype, shape, chunk, dimensions, fill)
        allocation.reopen()
        return allocation

    def _array(self, name: str) -> Array:
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _set(self, **changes: Any) -> None:
        """Change attributes; consolidated metadata are no part of what is written."""
        self.attributes |= changes
        self.group.attrs["lca"] = self.attributes


def create_run(
    path: Location | Path | str,
    parameters: ParameterTable,
    attributes: Mapping[str, Any],
    *,
    dtype: str = "float32",
    codec: str = "zstd",
    overwrite: bool = False,
) -> Run:
    """A run store with no iterate yet. dtype: of the weights.

    An existing one is replaced only if it is a run store and overwrite is given.
    """
    require_codec(codec)
    path = locate(path)
    if not path.is_free():
        if not _is_run(path):
            raise UsageError(f"{path} exists and is no run store; it is left alone. Choose another place for the run.")
        if not overwrite:
            raise UsageError(
                f"{path} exists already; choose another place for the run, or replace it with --overwrite."
            )
        old = open_run(path, "r+")
        with old.lock():
            old._set(iterates=0, status="training")  # so that what a crash leaves of it does not look finished
            path.remove()
    K = parameters.size
    length = block_length(K, np.dtype(dtype).itemsize)
    chunks = (min(CHUNK_PARAMETERS, K), length)
    with path.making() as folder:  # and then there whole: one that a crash cut short would be in the way of the next
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
    return open_run(path, "r+")


def open_run(path: Location | Path | str, mode: str = "r") -> Run:
    """Open a run store to read ("r"), or to add to it ("r+")."""
    path = locate(path)
    if not _is_run(path):
        if not path.exists():
            raise UsageError(f"{path} does not exist; make a run with `lca train PROBLEM --out {path}`.")
        raise UsageError(f"{path} is no run store: it has no zarr.json with the attribute 'lca'.")
    run = Run(path, consolidated.open_root(path, mode))
    if run.attributes.get("schema") != SCHEMA:
        raise LCAError(f"{path} has schema {run.attributes.get('schema')}; this version of lca reads schema {SCHEMA}.")
    return run


def fingerprint(values: Mapping[str, Any]) -> str:
    """A short digest of JSON-like values, equal for equal ones."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _is_run(path: Location) -> bool:
    try:
        with (path / ROOT).open() as file:
            metadata = json.load(file)
        return bool(metadata["node_type"] == "group" and "parameters" in metadata["attributes"]["lca"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _status(group: zarr.Group) -> str:
    attributes: Any = group.attrs.get("lca", {"status": "creating"})
    return str(attributes["status"])


def _subgroup(group: zarr.Group, name: str) -> zarr.Group:
    child = group[name]
    assert isinstance(child, zarr.Group)
    return child
