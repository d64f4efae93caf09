"""Read-only access to one allocation of a run store."""

from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from lca.errors import Argument, Call, LCAError
from lca.store.allocation_arrays import AllocationArrays
from lca.store.attributes import AllocationAttributes, read_attributes, require_consistent
from lca.store.blocks import Blocks, ceil_div
from lca.store.checksums import Array
from lca.store.chunks import detect_damage, read_part, verify_remedy
from lca.store.parameters import ParameterTable
from lca.store.paths import Location
from lca.store.schema import ARRAYS, OPTIONAL, find_time_axis
from lca.text import facts, html_facts


class Allocation:
    """One allocation of a run, opened for reading with `run.allocation(name)`.

    The arrays of the store are attributes, such as `allocation.lca` (the LCA of every parameter and iteration, below
    zero where a parameter helped) or `allocation.loss`. They are zarr arrays, so data are read only when an array is
    sliced.

    Attributes:
        run_path: Location of the run store.
        parameters: Parameter table of the run.
        attributes: Metadata of the allocation: split, rule, tolerance and the other options it was made with.
    """

    def __init__(self, run_path: Location, group: zarr.Group, parameters: ParameterTable, blocks: Blocks) -> None:
        self.run_path, self.group, self.parameters, self.blocks_of_run = run_path, group, parameters, blocks
        with detect_damage(f"{run_path}/lca/{group.basename}/zarr.json", verify_remedy(run_path)):
            self.attributes = read_attributes(group.attrs, AllocationAttributes)
            require_consistent(self.attributes, blocks.n)

    def __getattr__(self, name: str) -> Array:
        if name not in ARRAYS:
            raise AttributeError(f"an allocation has no array {name!r}; the arrays are {', '.join(ARRAYS)}")
        if name not in self.arrays:
            remake = self.remake(OPTIONAL[name]) if name in OPTIONAL else self.remake()
            raise LCAError(
                f"lca/{self.name} of {self.run_path} has no {name}",
                remedy=("Replace it with ", remake, ", or keep it and pass another ", Argument("name"), "."),
            )
        return self.opened.checked[name]

    def __dir__(self) -> list[str]:
        return sorted([*(name for name in super().__dir__() if not name.startswith("_")), *self.arrays])

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that this allocation has."""
        return self.opened.names

    @cached_property
    def opened(self) -> AllocationArrays:
        """The arrays, and the checksums of their files."""
        where = f"{self.run_path}/lca/{self.name}"
        length, remedy = self.blocks_of_run.length, verify_remedy(self.run_path)
        return AllocationArrays(self.group, where, self.attributes, self.sizes, length, remedy)

    @property
    def name(self) -> str:
        """The name of the allocation: its split, unless another name was chosen."""
        return self.group.basename

    @property
    def path(self) -> Location:
        """The location of the group that holds the arrays."""
        return self.run_path / f"lca/{self.name}"

    @property
    def n_iterations(self) -> int:
        """T, the number of iterations of the run."""
        return self.blocks_of_run.n

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each dimension. The dimension "packed" counts bytes, each of which holds 8 bits."""
        T, K = self.n_iterations, self.parameters.size
        return {
            "parameter": K,
            "packed": ceil_div(K, 8),
            "iteration": T,
            "iterate": T + 1,
            "tensor": len(self.parameters),
            "class": len(self.attributes.get("classes", [])),
            "block": len(self.blocks_of_run),
        }

    @property
    def classes(self) -> list[str]:
        """The names of the classes, or their labels if the problem does not name them."""
        return [str(name) for name in self.attributes.get("class_names") or self.attributes.get("classes", [])]

    @property
    def iterations(self) -> range:
        """The requested iterations. All others keep status 0, not allocated."""
        return range(*self.attributes.get("iterations", (0, self.n_iterations, 1)))

    @property
    def complete(self) -> bool:
        """Whether all requested iterations are allocated and the bound on the cumulative residual was checked."""
        return bool(self.attributes["status"] == "complete")

    @property
    def n_allocated(self) -> int:
        """The number of iterations whose status is not 0."""
        return int(np.count_nonzero(self.read("status")))

    def read(self, name: str) -> NDArray[Any]:
        """Read a whole array into memory.

        Args:
            name: Name of the array.

        Raises:
            LCAError: The allocation does not have this array.
            DamagedError: The array cannot be read.
        """
        return self.read_part(name, slice(None))

    def read_part(self, name: str, where: Any) -> NDArray[Any]:
        """Read a part of an array.

        Args:
            name: Name of the array.
            where: Index or slices of the part.

        Raises:
            LCAError: The allocation does not have this array.
            DamagedError: The part cannot be read.
        """
        return read_part(
            getattr(self, name), where, f"{self.run_path}/lca/{self.name}/{name}", verify_remedy(self.run_path)
        )

    def read_block(self, block: int, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
        """Read the part of each array that belongs to one block of iterations.

        Args:
            block: Index of the block.
            names: Arrays to read. All arrays by default.

        Returns:
            The arrays by name, with the iteration or iterate as the first dimension.
        """
        found = {}
        for name in self.arrays if names is None else names:
            if name != "blocks":
                where, axis = self.place(name, block)
                found[name] = np.moveaxis(self.read_part(name, where), axis, 0)
        return found

    def place(self, name: str, block: int) -> tuple[tuple[slice, ...], int]:
        """Return the position of a block in an array.

        Args:
            name: Name of the array.
            block: Index of the block.

        Returns:
            The slices that select the block, and the position of the iteration or iterate dimension.
        """
        spans = {"iteration": self.blocks_of_run[block], "iterate": self.blocks_of_run.iterates(block)}
        return tuple(spans.get(d, slice(None)) for d in ARRAYS[name][1]), find_time_axis(name)

    def remake(self, *arguments: Argument) -> Call:
        """Return a call that replaces this allocation, with further arguments if given, for the remedy of an error."""
        split = str(self.attributes.get("split", "train"))
        chosen = {"split": split} if split != "train" else {}
        chosen |= {"name": self.name} if self.name != split else {}
        chosen |= {argument.name: argument.value for argument in arguments}
        return Call("allocate", self.run_path, **chosen, overwrite=True)

    def facts(self) -> list[tuple[str, str]]:
        """Describe what the allocation contains and how it was made, as (label, text) pairs."""
        a = self.attributes
        arrays = ", ".join(f"{name} {'×'.join(map(str, getattr(self, name).shape))}" for name in self.arrays)
        state = "complete" if self.complete else "unfinished"
        examples, n = a.get("examples", 0), a.get("examples_in_split", 0)
        of_all = f"all {n:,}" if examples == n else f"{examples:,} of {n:,}"
        return [
            ("allocation", f"{self.path}, {state}"),
            ("loss", f"mean over {of_all} examples of the {a.get('split')} split"),
            ("rule", f"{a.get('rule')}, tolerance {a.get('tolerance', 0):g} per iteration"),
            ("iterations", f"{self.n_allocated:,} of {self.n_iterations:,} allocated"),
            ("sign of LCA", "below zero helps (lowers the loss), above zero hurts"),
            ("arrays", arrays),
        ]

    def __repr__(self) -> str:
        return facts(self.facts())

    def _repr_html_(self) -> str:
        return html_facts(self.facts())
