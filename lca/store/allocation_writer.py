"""Write an allocation, one block of iterations at a time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.store import consolidated
from lca.store.allocation import Allocation
from lca.store.attributes import write_attributes
from lca.store.schema import ARRAYS


class AllocationWriter:
    """Writer of the arrays and attributes of one allocation."""

    def __init__(self, allocation: Allocation) -> None:
        self.allocation = allocation

    def write_block(self, block: int, rows: Mapping[str, NDArray[Any]], *, done: bool = True) -> None:
        """Write the values of one block of iterations, then mark the block as done.

        `rows` maps the names of arrays to values, with the iteration or iterate as the first dimension. To write a
        block that is only partly allocated, pass `done=False`. `status` is written last, because it decides which
        iterations of such a block count.
        """
        self.allocation.opened.checksums.forget(self._rows(block))
        for name in (*(name for name in rows if name != "status"), *(["status"] if "status" in rows else [])):
            where, axis = self.allocation.place(name, block)
            self._write(name, where, np.moveaxis(rows[name], 0, axis))
        if done:
            self.allocation.opened.checksums.record(self._rows(block))
            self._write("blocks", block, 1)

    def write_iteration(self, t: int, values: Mapping[str, Any]) -> None:
        """Replace the values of iteration t in a finished block. `values` maps the names of arrays to values."""
        row, _ = self.allocation.blocks_of_run.locate(t)
        self.allocation.opened.checksums.refresh([row])
        self.allocation.opened.checksums.forget([row])
        for name, value in values.items():
            self._write(name, (slice(None), t) if name == "lca" else t, value)
        self.allocation.opened.checksums.record([row])

    def note(self, name: str, value: Any) -> None:
        """Set an attribute of the allocation, or remove it if the value is None."""
        allocation = self.allocation
        allocation.attributes[name] = value
        if value is None:
            del allocation.attributes[name]
        with consolidated.drop_for_changes(allocation.run_path):
            write_attributes(allocation.group.attrs, allocation.attributes)

    def finish(self) -> None:
        """Mark the allocation as complete."""
        self.note("status", "complete")
        consolidated.write(self.allocation.run_path)

    def reopen(self) -> None:
        """Mark the allocation as unfinished, so that it can be continued."""
        self.note("status", "allocating")

    def undo(self, block: int) -> None:
        """Mark a block as not allocated, so that it is computed again."""
        self.reopen()
        self.allocation.opened.checksums.forget(self._rows(block))
        self._write("blocks", block, 0)
        names = [name for name in self.allocation.arrays if name not in ("blocks", "status")]
        for name in ("status", *names):  # damaged values must not be read again
            where, _ = self.allocation.place(name, block)
            self._write(name, where, ARRAYS[name][2])

    def mark(self, block: int, done: bool) -> None:
        """Store again whether a block is done, after its mark was lost."""
        self._write("blocks", block, int(done))

    def forget_checksums(self, row: int) -> None:
        """Mark the checksums in a row as unknown, because they cannot be read."""
        self.allocation.opened.stored_checksums[row] = 0

    def _rows(self, block: int) -> list[int]:
        """Return the rows of the array `checksums` that belong to a block. θ_T may be in a row of its own."""
        blocks = self.allocation.blocks_of_run
        return sorted({block, (blocks.iterates(block).stop - 1) // blocks.length})

    def _write(self, name: str, where: Any, values: Any) -> None:
        getattr(self.allocation, name)[where] = values
