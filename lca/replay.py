"""The iterates of a run, read ahead, and the arrays of its blocks, written behind."""

from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from numcodecs.bitround import BitRound
from numpy.typing import NDArray
from torch import Tensor

from lca.arrays import ARRAYS, Allocation
from lca.store import Run

# Blocks in host memory, by kind of device: of iterates, and as many of results. With two, reading and writing overlap
# with the passes. A pass on the CPU has all cores already, so there a second one would be memory for nothing.
BLOCKS_HELD = defaultdict(lambda: 1, cuda=2)
STRIP = 2**15  # parameters read at once: what lies in memory twice for a moment; more is no faster
MANTISSA_BITS = 23  # of a float32
ON_HOST = ("lca", "gradient_sign", "allocated", "residual", "intervals", "status")  # the others stay on the device


class Trajectory:
    """theta(t) -> θ_t (K,) on the device; a context manager.

    A block is in host memory; for a CUDA device it is pinned, and a thread reads the next one ahead into a second.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, self.device = run, device
        self._held = BLOCKS_HELD[device.type]
        self._buffers: list[Tensor | None] = [None] * self._held
        self._blocks: list[tuple[int, Future[NDArray[np.bool_]]] | None] = [None] * self._held  # as they are in buffers
        self._pool = ThreadPoolExecutor(1, "lca-reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, t: int) -> Tensor:
        self._wait_for(t)
        buffer = self._buffers[t // self.run.block % self._held]
        assert buffer is not None
        return buffer[t % self.run.block].to(self.device, non_blocking=True, copy=True)

    def is_finite(self, t: int) -> bool:
        """Whether every parameter of θ_t is."""
        return bool(self._wait_for(t)[t % self.run.block])

    def read_ahead(self, block: int) -> None:
        """Begin to read the block after the one in use, if there is one and room for it."""
        if self._held > 1 and block * self.run.block < self.run.n_iterates:
            self._begin(block)

    def _begin(self, block: int) -> Future[NDArray[np.bool_]]:
        """Read a block, unless it is there, in place of the one that has its buffer."""
        held = self._blocks[block % self._held]
        if held is None or held[0] != block:
            held = self._blocks[block % self._held] = block, self._pool.submit(self._read, block)
        return held[1]

    def _wait_for(self, t: int) -> NDArray[np.bool_]:
        return self._begin(t // self.run.block).result()

    def _read(self, block: int) -> NDArray[np.bool_]:
        """Fill the buffer of the block; which of its iterates are finite."""
        K, pinned = self.run.parameters.size, self.device.type == "cuda"
        buffer = self._buffers[block % self._held]
        if buffer is None:
            dtype = getattr(torch, self.run.weights.dtype.name)
            buffer = torch.empty(self.run.block, K, dtype=dtype, pin_memory=pinned)
            self._buffers[block % self._held] = buffer
        finite = np.ones(self.run.block, bool)
        # Copied by numpy, for torch would open an OpenMP team in this thread. Once there are more such threads than
        # cores, libgomp lets none of them spin between two operations, and every pass takes a fifth longer.
        rows = buffer.numpy()
        for top in range(0, K, STRIP):
            columns = self.run.iterates(block, slice(top, min(top + STRIP, K)))
            n = columns.shape[1]
            rows[:n, top : top + STRIP] = columns.T
            finite[:n] &= np.isfinite(columns).all(axis=0)
        return finite


class Rows:
    """The arrays of one block of iterations, a row for each of its iterations or iterates; filled as it is allocated.

    What is small stays on the device until the block is done, what is not goes to pinned memory without being waited
    for: setting a row does not synchronise.
    """

    def __init__(self, allocation: Allocation, device: torch.device) -> None:
        self.allocation, self.device = allocation, device
        n, sizes = allocation.run.block, allocation.sizes
        self._rows: dict[str, Tensor] = {}
        for name in allocation.arrays:
            if name == "blocks":
                continue
            dtype, dimensions, _ = ARRAYS[name]
            shape = (
                n + ("iterate" in dimensions),
                *(sizes[d] for d in dimensions if d not in ("iteration", "iterate")),
            )
            pinned = name in ON_HOST and device.type == "cuda"
            where = torch.device("cpu") if name in ON_HOST else device
            self._rows[name] = torch.empty(shape, dtype=getattr(torch, dtype), device=where, pin_memory=pinned)

    def begin(self, block: int) -> None:
        """Empty, but for what an interrupted call has left of the block."""
        self.block = block
        for name, rows in self._rows.items():
            rows.fill_(ARRAYS[name][2])
        span = self.allocation.iteration_blocks[block]
        if np.asarray(self.allocation.status[span]).any():
            for name, values in self.allocation.read_block(block).items():
                self._rows[name][: len(values)] = torch.from_numpy(np.ascontiguousarray(values))

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __setitem__(self, where: tuple[str, int], value: Tensor | float) -> None:
        name, row = where
        if isinstance(value, Tensor):
            self._rows[name][row].copy_(value, non_blocking=True)
        else:
            self._rows[name][row] = value

    def is_set(self, row: int) -> bool:
        """Whether the iteration has been allocated before."""
        return bool(self._rows["status"][row])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As Allocation.write_block takes them; waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        span = self.allocation.iteration_blocks[self.block]
        n, last = span.stop - span.start, span.stop == self.allocation.run.n_iterations
        return {
            name: rows[: n + (last and "iterate" in ARRAYS[name][1])].cpu().numpy() for name, rows in self._rows.items()
        }


class WriteBehind:
    """Blocks are written by a thread, for CUDA while the next is allocated; a context manager, which waits for all."""

    def __init__(self, allocation: Allocation, device: torch.device, keep_bits: int = MANTISSA_BITS) -> None:
        self.allocation, self.keep_bits = allocation, keep_bits
        self._rows = [Rows(allocation, device) for _ in range(BLOCKS_HELD[device.type])]
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

    def begin(self, block: int) -> Rows:
        """The rows of a block that is about to be allocated."""
        if len(self._rows) == 1:
            self.wait()
        rows = self._rows[0]
        rows.begin(block)
        return rows

    def write(self, rows: Rows, *, done: bool) -> None:
        """Write a block, all of it or what there is; waits for the one before it."""
        arrays = rows.arrays()
        self.wait()
        self._pending = self._pool.submit(self._write, rows.block, arrays, done)
        self._rows.reverse()

    def wait(self) -> None:
        """Until all is written; an error of the thread is raised here."""
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, block: int, arrays: dict[str, NDArray[Any]], done: bool) -> None:
        if "lca" in arrays:
            arrays["lca"] = keep_bits(arrays["lca"], self.keep_bits)
        self.allocation.write_block(block, arrays, done=done)


def keep_bits(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Rounded to so many bits of mantissa, which compresses better."""
    if bits == MANTISSA_BITS:
        return values
    return np.asarray(BitRound(bits).encode(values)).view(np.float32).reshape(values.shape)
