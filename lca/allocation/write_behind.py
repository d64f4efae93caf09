"""Writes the results block by block in a thread. With an accelerator, the next block is computed at the same time."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lca.allocation.trajectory import BLOCKS_HELD
from lca.runtime.device import find_float64_device
from lca.runtime.streams import allocate_on_host, is_asynchronous
from lca.store.allocation import Allocation
from lca.store.allocation_writer import AllocationWriter
from lca.store.chunks import round_mantissa
from lca.store.schema import ARRAYS, MANTISSA_BITS

# The arrays with one number per iteration that the host already knows when it sets a row.
SCALARS = ("allocated", "residual", "intervals", "part_estimate", "curvature_share", "status")
ON_HOST = ("lca", "gradient_sign", *SCALARS)


class BlockRows:
    """The arrays of one block of iterations, with one row per iteration or iterate, filled during the allocation.

    Rows of the arrays in `ON_HOST` are in host memory, to which a device copies asynchronously if it can. Rows of other
    arrays stay on the device that `find_float64_device` returns until the block is written. Setting a row therefore
    does not wait for a device with streams.
    """

    def __init__(self, allocation: Allocation, device: torch.device) -> None:
        self.allocation, self.device = allocation, device
        n, sizes = allocation.blocks_of_run.length, allocation.sizes
        float64_device = find_float64_device(device)
        self._rows: dict[str, Tensor] = {}
        for name in allocation.arrays:
            if name == "blocks":
                continue
            dtype, dimensions, _ = ARRAYS[name]
            shape = (
                n + ("iterate" in dimensions),
                *(sizes[d] for d in dimensions if d not in ("iteration", "iterate")),
            )
            kind = getattr(torch, dtype)
            if name in ON_HOST:
                self._rows[name] = allocate_on_host(shape, kind, device)
            else:
                self._rows[name] = torch.empty(shape, dtype=kind, device=float64_device)

    def begin(self, block: int) -> None:
        """Clear all rows, then load those of the block that an interrupted call has already written."""
        self.block = block
        for name, rows in self._rows.items():
            rows.fill_(ARRAYS[name][2])
        if np.asarray(self.allocation.status[self.allocation.blocks_of_run[block]]).any():
            for name, values in self.allocation.read_block(block).items():
                self._rows[name][: len(values)] = torch.from_numpy(np.ascontiguousarray(values))

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __setitem__(self, where: tuple[str, int], value: Tensor | float) -> None:
        name, row = where
        if isinstance(value, Tensor):
            self._rows[name][row].copy_(value, non_blocking=is_asynchronous(self.device))
        else:
            self._rows[name][row] = value

    def read(self, name: str, row: int) -> float:
        """Return the value of an array in `SCALARS`."""
        return self._rows[name][row].item()

    def is_set(self, row: int) -> bool:
        """Return whether the iteration of this row is already allocated."""
        return bool(self._rows["status"][row])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Wait for the device and return the arrays in the form that AllocationWriter.write_block expects."""
        if is_asynchronous(self.device):
            torch.accelerator.synchronize(self.device)
        blocks = self.allocation.blocks_of_run
        iterations, iterates = blocks[self.block], blocks.iterates(self.block)
        n = {False: iterations.stop - iterations.start, True: iterates.stop - iterates.start}
        return {name: rows[: n["iterate" in ARRAYS[name][1]]].cpu().numpy() for name, rows in self._rows.items()}


class WriteBehind:
    """Writes blocks in a thread. With an accelerator, the next block is allocated at the same time.

    Use it as a context manager. The exit waits until all blocks are written, and raises errors of the thread unless
    another exception is being raised.
    """

    def __init__(self, allocation: Allocation, device: torch.device, keep_bits: int = MANTISSA_BITS) -> None:
        self.writer, self.keep_bits = AllocationWriter(allocation), keep_bits
        self._rows = [BlockRows(allocation, device) for _ in range(BLOCKS_HELD[device.type])]
        self._pending: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, "lca-writer")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown()

    def begin(self, block: int) -> BlockRows:
        """Return the rows of a block that is about to be allocated."""
        if len(self._rows) == 1:
            self.wait()
        rows = self._rows[0]
        rows.begin(block)
        return rows

    def write(self, rows: BlockRows) -> None:
        """Wait until the previous block is written, then start writing this complete one."""
        arrays = rows.to_arrays()
        self.wait()
        self._pending = self._pool.submit(self._write, rows.block, arrays, True)
        self._rows.reverse()

    def save(self, rows: BlockRows) -> None:
        """Write a block that is only partly allocated, and wait for it."""
        self.wait()
        self._write(rows.block, rows.to_arrays(), False)

    def wait(self) -> None:
        """Wait until all blocks are written. Errors of the thread are raised here."""
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, block: int, arrays: dict[str, NDArray[Any]], done: bool) -> None:
        if "lca" in arrays:
            arrays["lca"] = round_mantissa(arrays["lca"], self.keep_bits)
        self.writer.write_block(block, arrays, done=done)
