"""The run store: one zarr v3 group per run; the schema, and what is read and written.

    RUN.zarr/
      attributes["lca"]   what was trained and how, the parameter table, the status
      weights             (parameter, iterate)   every θ_t
      training/           (iteration)            what the optimizer saw
      lca/NAME/           one allocation, see ARRAYS

Iterates and iterations come in blocks (64 of them, fewer where K is large): the unit of writing. Every array is chunked
so that a block is whole chunks; what a block holds is written first and counted (attribute `iterates`, array `blocks`)
after, so that a crash leaves nothing that looks finished and is not.
"""

import asyncio
import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from lca.errors import LCAError, UsageError
from lca.layout import CHUNK_PARAMETERS, WRITE_ALL, Array, block_length, create_array, require_codec
from lca.location import ROOT, Location, locate
from lca.parameters import ParameterTable

SCHEMA = 1
NAN = float("nan")

# The arrays of an allocation: dtype, dimensions, fill value (NaN where missing must never read as zero).
ARRAYS: dict[str, tuple[str, tuple[str, ...], float]] = {
    "lca": ("float32", ("parameter", "iteration"), NAN),
    "loss": ("float64", ("iterate",), NAN),
    "allocated": ("float64", ("iteration",), NAN),
    "residual": ("float64", ("iteration",), NAN),
    "intervals": ("int16", ("iteration",), 0),
    "status": ("uint8", ("iteration",), 0),
    "layer_lca": ("float64", ("iteration", "tensor"), NAN),
    "gradient_norm": ("float64", ("iterate", "tensor"), NAN),
    "motion_norm": ("float64", ("iteration", "tensor"), NAN),
    "class_lca": ("float64", ("iteration", "class", "tensor"), NAN),
    "gradient_sign": ("uint8", ("packed", "iterate"), 0),
    "blocks": ("uint8", ("block",), 0),
}

# Those that an allocation may be without, and what to do to have them.
OPTIONAL = {"lca": "--keep lca", "class_lca": "--by-class", "gradient_sign": "--gradient-signs"}


class Run:
    """A run store. Arrays are zarr's own: slice them to read; nothing is loaded before."""

    def __init__(self, path: Location, group: zarr.Group) -> None:
        self.path, self.group = path, group
        self.attributes: dict[str, Any] = dict(group.attrs["lca"])  # type: ignore[arg-type]
        self.parameters = ParameterTable.from_json(self.attributes["parameters"])

    @cached_property
    def weights(self) -> Array:
        """Every iterate, float32 (parameter, iterate)."""
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
            command = f"lca allocate {self.path}{option}"
            raise LCAError(f"{self.path} has no allocation {name!r}; {known}. Make it with `{command}`.")
        return Allocation(self, _subgroup(self.group, f"lca/{name}"))

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

    def iterates(self, block: int, parameters: slice = slice(None)) -> NDArray[np.float32]:
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

    async def write_iterates(self, begin: int, rows: NDArray[np.float32]) -> None:
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
        self._set(status="complete")

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
        self.attributes |= changes
        self.group.attrs["lca"] = self.attributes


class Allocation:
    """One allocation of a run. The arrays of the schema are attributes: `allocation.lca`, `allocation.loss`, …"""

    def __init__(self, run: Run, group: zarr.Group) -> None:
        self.run, self.group = run, group
        self.attributes: dict[str, Any] = dict(group.attrs["lca"])  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Array:
        if name not in ARRAYS:
            raise AttributeError(f"an allocation has no array {name!r}; it has {', '.join(ARRAYS)}")
        if name not in self.arrays:
            command = self.command(OPTIONAL[name])
            raise LCAError(
                f"lca/{self.name} of {self.run.path} has no {name}. Make it anew with `{command}`, or beside it with "
                "another --name."
            )
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array.with_config(WRITE_ALL)  # which zarr does not keep

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that there are."""
        there = set(self.group.array_keys())
        return tuple(name for name in ARRAYS if name in there)

    @property
    def name(self) -> str:
        return self.group.basename

    @property
    def path(self) -> Location:
        return self.run.path / f"lca/{self.name}"

    def command(self, *options: str) -> str:
        """The command line that makes this allocation anew, with further options."""
        split = str(self.attributes.get("split", "train"))
        of_split = [] if split == "train" else ["--split", split]
        named = [] if self.name == split else ["--name", self.name]
        return " ".join(["lca allocate", str(self.run.path), *of_split, *named, *options, "--overwrite"])

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each dimension. packed: bytes of one bit per parameter."""
        classes = len(self.attributes.get("classes", []))
        return {**self.run.sizes, "class": classes, "packed": -(-self.run.parameters.size // 8)}

    @property
    def iterations(self) -> range:
        """Those that are asked for; the others stay at status 0."""
        return range(*self.attributes.get("iterations", (0, self.run.n_iterations, 1)))

    @property
    def complete(self) -> bool:
        """Whether every iteration is allocated and the total bound has been seen to."""
        return bool(self.attributes["status"] == "complete")

    @property
    def n_allocated(self) -> int:
        """Iterations that are not at status 0."""
        return int(np.count_nonzero(np.asarray(self.status[:])))

    @property
    def iteration_blocks(self) -> list[slice]:
        """The iterations of each block."""
        T, length = self.run.n_iterations, self.run.block
        return [slice(begin, min(begin + length, T)) for begin in range(0, T, length)]

    def read_block(self, block: int, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
        """What belongs to one block of iterations, by name, the iteration or iterate first."""
        return {
            name: np.moveaxis(np.asarray(getattr(self, name)[where]), axis, 0)
            for name in (self.arrays if names is None else names)
            if name != "blocks"
            for where, axis in [self.where(name, block)]
        }

    def write_block(self, block: int, rows: Mapping[str, NDArray[Any]], *, done: bool = True) -> None:
        """Write what belongs to one block of iterations, the iteration or iterate first, then mark it as done.

        The iterates of a block are the starts of its iterations; the last block has θ_T as well. A part of a block
        (done=False) counts by its status, which is written last.
        """
        for name in sorted(rows, key="status".__eq__):
            where, axis = self.where(name, block)
            self._write(name, where, np.moveaxis(rows[name], 0, axis))
        if done:
            self._write("blocks", block, 1)

    def write_iteration(self, t: int, values: Mapping[str, Any]) -> None:
        """Put the values of iteration t in place of those there."""
        for name, value in values.items():
            self._write(name, (slice(None), t) if name == "lca" else t, value)

    def finish(self) -> None:
        self.note("status", "complete")

    def note(self, name: str, value: Any) -> None:
        """Keep something with the allocation, as an attribute; None: keep it no more."""
        self.attributes[name] = value
        if value is None:
            del self.attributes[name]
        self.group.attrs["lca"] = self.attributes

    def reopen(self) -> None:
        """Not complete after all: it has to be gone on with."""
        self.note("status", "allocating")

    def undo(self, block: int) -> None:
        """Mark a block as not allocated."""
        self.reopen()
        self._write("blocks", block, 0)
        self._write("status", self.iteration_blocks[block], 0)

    def where(self, name: str, block: int) -> tuple[tuple[slice, ...], int]:
        """The place of a block in an array, and which dimension is that of the iteration or iterate."""
        span, dimensions = self.iteration_blocks[block], ARRAYS[name][1]
        last = span.stop == self.run.n_iterations
        places = {"iteration": span, "iterate": slice(span.start, span.stop + last)}
        axis = next(i for i, d in enumerate(dimensions) if d in places)
        return tuple(places.get(d, slice(None)) for d in dimensions), axis

    def _write(self, name: str, where: Any, values: Any) -> None:
        getattr(self, name)[where] = values


def create_run(
    path: Location | Path | str,
    parameters: ParameterTable,
    attributes: Mapping[str, Any],
    *,
    codec: str = "zstd",
    overwrite: bool = False,
) -> Run:
    """A run store with no iterate yet. An existing one is replaced only if it is a run store and overwrite is given."""
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
    length = block_length(K)
    chunks = (min(CHUNK_PARAMETERS, K), length)
    with path.making() as folder:  # and then there whole: one that a crash cut short would be in the way of the next
        group = zarr.create_group(folder)
        create_array(group, "weights", "float32", (K, 0), chunks, ("parameter", "iterate"), NAN, codec)
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
    run = Run(path, zarr.open_group(path.zarr_store(), mode=mode))  # type: ignore[arg-type]
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
