"""Read-only access to a run store."""

import json
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from lca.errors import Call, DamagedError, LCAError, UsageError
from lca.store import consolidated
from lca.store.allocation import Allocation
from lca.store.attributes import RunAttributes, read_attributes
from lca.store.blocks import Blocks
from lca.store.checksums import MAX_METADATA_BYTES, Array
from lca.store.chunks import BLOCK_BYTES, detect_damage, read_part, verify_remedy
from lca.store.description import describe_options, describe_origin, describe_training
from lca.store.parameters import ParameterTable
from lca.store.paths import Location, locate
from lca.store.run_arrays import open_training, open_weights, subgroup
from lca.store.schema import ROOT, SCHEMA, SPLITS
from lca.text import facts, html_facts, pluralize, size

if TYPE_CHECKING:
    from xarray import Dataset


class Run:
    """A run store, opened with `lca.open(path)`. Its arrays are zarr arrays, read only when they are sliced.

    Attributes:
        path: Location of the store.
        group: The zarr group of the store.
        attributes: Metadata of the run: problem, training options, splits, status.
        parameters: Parameter table, in the order of the rows of `weights`.

    Example:
        >>> run = lca.open("run.zarr")
        >>> last = run.weights[:, -1]
        >>> A = run.allocation("train").lca[run.parameters.rows("fc1")]
    """

    def __init__(self, path: Location, group: zarr.Group) -> None:
        self.path, self.group = path, group
        with detect_damage(f"{path}/{ROOT}"):
            self.attributes = read_attributes(group.attrs, RunAttributes)
            self.parameters = ParameterTable.from_json(self.attributes["parameters"])

    @cached_property
    def weights(self) -> Array:
        """All iterates, with shape (parameter, iterate) and dtype float32, or float64 if the model is in float64."""
        return open_weights(self.group, self.path, self.attributes["codec"], self.blocks.length)

    @property
    def training(self) -> dict[str, Array]:
        """Arrays with one value per iteration of the training, by name, such as "loss" and "learning_rate"."""
        return open_training(self.group, self.path, self.attributes.get("training_checksums", {}))

    @property
    def status(self) -> str:
        """The state of the run: "complete" if all iterates are stored, otherwise "training"."""
        return str(self.attributes["status"])

    @property
    def n_iterates(self) -> int:
        """The number of stored iterates."""
        return int(self.attributes["iterates"])

    @property
    def n_iterations(self) -> int:
        """T, the number of iterations, which are the steps between the stored iterates."""
        return max(self.n_iterates - 1, 0)

    @property
    def blocks(self) -> Blocks:
        """The blocks of iterations in which allocations are written."""
        return Blocks(self.n_iterations, int(self.attributes["block"]))

    @property
    def iterate_blocks(self) -> Blocks:
        """The blocks of iterates in which the weights are written."""
        return Blocks(self.n_iterates, int(self.attributes["block"]))

    @property
    def n_unmoved(self) -> int:
        """The number of iterations that changed no parameter, such as steps that a gradient scaler skipped."""
        moved = self.training.get("moved")
        if moved is None:
            return 0
        values = read_part(moved, slice(None), f"{self.path}/training/moved", verify_remedy(self.path))
        return int((values == 0).sum())

    @property
    def allocations(self) -> list[str]:
        """The names of the allocations in the store."""
        return sorted(name for name in (self.path / "lca").folders() if _is_allocation(self, name))

    def allocation(self, name: str = "train") -> Allocation:
        """Open an allocation of this run.

        Args:
            name: Name of the allocation.

        Raises:
            LCAError: The run has no allocation of this name.
        """
        if name not in self.allocations:
            known = f"it has {', '.join(self.allocations)}" if self.allocations else "it has none yet"
            named = {} if name == "train" else {"split": name} if name in SPLITS else {"name": name}
            raise LCAError(
                f"{self.path} has no allocation {name!r}; {known}",
                remedy=("Create it with ", Call("allocate", self.path, **named), "."),
            )
        with detect_damage(f"{self.path}/lca/{name}", verify_remedy(self.path)):
            group = subgroup(self.group, f"lca/{name}")
        return Allocation(self.path, group, self.parameters, self.blocks)

    def iterates(self, block: int, parameters: slice = slice(None)) -> NDArray[Any]:
        """Read one block of iterates, as an array of shape (parameter, iterate).

        Args:
            block: Index of the block.
            parameters: Range of parameters to read. All parameters by default.

        Raises:
            DamagedError: The block cannot be read.
        """
        name = f"block {block} of {self.path}/weights"
        return read_part(self.weights, (parameters, self.iterate_blocks[block]), name, verify_remedy(self.path))

    def iterate(self, t: int) -> NDArray[Any]:
        """Read the iterate θ_t, as an array of shape (parameter,).

        Args:
            t: Number of the iterate, from 0 to T.

        Raises:
            DamagedError: The iterate cannot be read.
        """
        name = f"block {t // self.iterate_blocks.length} of {self.path}/weights"
        part: NDArray[Any] = read_part(self.weights, (slice(None), slice(t, t + 1)), name, verify_remedy(self.path))
        return part[:, 0]

    def to_xarray(self, name: str = "train") -> "Dataset":
        """Open an allocation as an `xarray.Dataset`, whose arrays are read only when they are used.

        The coordinates are the numbers of iterations and iterates, the names of tensors with their layers, and the
        labels of classes.

        Args:
            name: Name of the allocation.

        Raises:
            UsageError: xarray is not installed.
            LCAError: The run has no allocation of this name.
        """
        if find_spec("xarray") is None:
            raise UsageError(
                "xarray is not installed", remedy="Install it with: pip install 'loss-change-allocation[xarray]'"
            )
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
        data: Dataset = stored.drop_vars("checksums").assign_coords(coordinates)
        return data

    def disk_bytes(self, name: str = "") -> int:
        """Return the size of the store on disk, in bytes.

        Args:
            name: Array or group to measure, such as "weights" or "lca/train". The whole store by default.
        """
        return sum((self.path / name if name else self.path).files().values())

    def facts(self) -> list[tuple[str, str]]:
        """Describe the run as (label, text) pairs: its problem, training, progress, size on disk and allocations."""
        attributes = self.attributes
        train, initial, codec = attributes.get("train", {}), attributes.get("initial"), attributes["codec"]
        raw, disk = self.weights.dtype.itemsize * self.parameters.size * self.n_iterates, self.disk_bytes("weights/c")
        planned = f" of {train['iterations'] + 1:,}" if self.status != "complete" and "iterations" in train else ""
        diverged = "diverged_at" in attributes
        problem = attributes.get("problem", "unknown") + describe_options(attributes.get("problem_options", {}))
        recorded = f"{self.n_iterates:,}{planned} iterates" if planned else pluralize(self.n_iterates, "iterate")
        tensors, unmoved = pluralize(len(self.parameters), "tensor"), self.n_unmoved
        rows = [
            ("run", f"{self.path}, {self.status}"),
            ("problem", problem),
            ("training", describe_training(train) or describe_origin(attributes)),
            *([("started", "from iterate {iterate:,} of {run}".format(**initial))] if initial else []),
            ("iterates", f"{recorded}; {self.parameters.size:,} parameters in {tensors}"),
            (
                "weights",
                f"{size(disk)} on disk, {100 * disk / raw:.0f} % of {size(raw)} uncompressed ({codec})"
                if raw
                else "none yet",
            ),
            *([("diverged", "training stopped when a parameter became NaN or infinite")] if diverged else []),
            *([("unmoved", f"{pluralize(unmoved, 'iteration')} changed no parameter")] if unmoved else []),
            ("store", f"{size(self.disk_bytes())} on disk in total"),
        ]
        for name in self.allocations:
            allocation = self.allocation(name)
            state = "complete" if allocation.complete else "unfinished"
            allocated = f"{allocation.n_allocated:,} of {self.n_iterations:,} iterations allocated"
            rows.append((f"lca/{name}", f"{state}, {allocated}"))
        return [*rows, *([("command", attributes["command"])] if attributes.get("command") else [])]

    def __repr__(self) -> str:
        return facts(self.facts())

    def _repr_html_(self) -> str:
        return html_facts(self.facts())


def open_run(path: Location | Path | str, mode: str = "r") -> Run:
    """Open a run store.

    Args:
        path: Path or URL of the run.
        mode: "r" to read the store, "r+" to also write to it.

    Returns:
        The run.

    Raises:
        UsageError: There is no run store at this location.
        LCAError: The store was written with another version of the schema.
        DamagedError: The metadata of the store cannot be read.

    Example:
        >>> lca.open("run.zarr")
    """
    path = locate(path)
    if not is_run(path):
        if not path.exists():
            raise UsageError(f"{path} does not exist", remedy=("Create a run with ", Call("train", path), "."))
        raise UsageError(f"{path} is not a run store", expected="a zarr.json with the attribute 'lca'", found="none")
    path.require_plain()
    with detect_damage(f"{path}/{ROOT}"):
        group = consolidated.open_root(path, mode)
        schema = group.attrs["lca"]["schema"]  # type: ignore[call-overload, index]
    if schema != SCHEMA:
        raise LCAError(
            f"the schema of {path}",
            expected=str(SCHEMA),
            found=str(schema),
            remedy="Record the run again, or use the release of lca that wrote it.",
        )
    run = Run(path, group)
    _require_plausible_size(run)
    return run


def _require_plausible_size(run: Run) -> None:
    """Raise DamagedError if a large run has far too few files, before memory is allocated for its arrays."""
    n_bytes = run.parameters.size * run.n_iterates * 4
    if max(n_bytes, run.n_iterates * 64) > 2**30:
        n_files = len((run.path / "weights/c").files())
        if 2 * n_files < len(run.iterate_blocks) or 2 * n_files * BLOCK_BYTES < n_bytes:
            sizes = f"{run.n_iterates:,} iterates of {run.parameters.size:,} parameters"
            raise DamagedError(f"{run.path}/{ROOT} is damaged: it states {sizes}, but there are only {n_files:,} files")


def is_run(path: Location) -> bool:
    """Return whether there is a run store at this location."""
    try:
        with (path / ROOT).open() as file:
            metadata = json.loads(file.read(MAX_METADATA_BYTES))
        return bool(metadata["node_type"] == "group" and "parameters" in metadata["attributes"]["lca"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_allocation(run: Run, name: str) -> bool:
    """Return whether there is an allocation of this name. If its creation was interrupted, it does not count."""
    with detect_damage(f"{run.path}/lca/{name}", verify_remedy(run.path)):
        if f"lca/{name}" not in run.group:  # without its own metadata, it is damaged unless it is empty
            return bool((run.path / f"lca/{name}").folders())
        return _status(subgroup(run.group, f"lca/{name}")) != "creating"


def _status(group: zarr.Group) -> str:
    attributes: Any = group.attrs.get("lca", {"status": "creating"})
    return str(attributes["status"])
