"""One allocation in a run store: its arrays, by the names of the schema, and how they are read and written by block."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from lca import consolidated
from lca.errors import LCAError
from lca.layout import WRITE_ALL, Array
from lca.location import Location

if TYPE_CHECKING:
    from lca.store import Run

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


class Allocation:
    """One allocation of a run. The arrays of the schema are attributes: `allocation.lca`, `allocation.loss`, …"""

    def __init__(self, run: "Run", group: zarr.Group) -> None:
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
        return (
            " ".join(["lca allocate", str(self.run.path), *of_split, *named, *options, "--overwrite"]) + self.run.again
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each dimension. packed: bytes of one bit per parameter."""
        classes = len(self.attributes.get("classes", []))
        return {**self.run.sizes, "class": classes, "packed": -(-self.run.parameters.size // 8)}

    @property
    def classes(self) -> list[str]:
        """What the classes are called: as the problem names them, else by their labels."""
        return [str(name) for name in self.attributes.get("class_names") or self.attributes.get("classes", [])]

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
        consolidated.write(self.run.path)

    def note(self, name: str, value: Any) -> None:
        """Keep something with the allocation, as an attribute; None: keep it no more."""
        self.attributes[name] = value
        if value is None:
            del self.attributes[name]
        with consolidated.dropped(self.run.path):
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
