"""The iterates of a run, read block by block. For an accelerator, the next block is read ahead of time."""

from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lca.runtime.device import find_float64_device
from lca.runtime.streams import allocate_on_host, is_asynchronous
from lca.store.run import Run

# Number of blocks of iterates, and of blocks of results, in host memory for each kind of device. With two, reading and
# writing overlap with the passes. On the CPU, passes already use all cores, so a second block would only waste memory.
BLOCKS_HELD = defaultdict(lambda: 2, cpu=1)
READ_ROWS = 2**15  # parameters read at a time; they are briefly in memory twice, and larger reads are not faster


class Trajectory:
    """A callable that returns the iterate θ_t (K,) for a given t. Use it as a context manager.

    `device` is the device of the passes. The iterates are on the device that `find_float64_device` returns for it. One
    block of iterates is kept in host memory. For an accelerator, a thread reads the next block into a second buffer
    ahead of time.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, self.blocks, self.device = run, run.iterate_blocks, device
        self._target = find_float64_device(device)
        self._held = BLOCKS_HELD[device.type]
        self._buffers: list[Tensor | None] = [None] * self._held
        self._blocks: list[tuple[int, Future[NDArray[np.bool_]]] | None] = [None] * self._held  # block in each buffer
        self._pool = ThreadPoolExecutor(1, "lca-reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, t: int) -> Tensor:
        self._wait_for(t)
        block, row = self.blocks.locate(t)
        buffer = self._buffers[block % self._held]
        assert buffer is not None
        return buffer[row].to(self._target, non_blocking=is_asynchronous(self.device), copy=True)

    def is_finite(self, t: int) -> bool:
        """Return whether every parameter of θ_t is finite."""
        return bool(self._wait_for(t)[self.blocks.locate(t)[1]])

    def read_ahead(self, block: int) -> None:
        """Start reading a block that will be needed soon, if it exists and there is a second buffer."""
        if self._held > 1 and block < len(self.blocks):
            self._start_reading(block)

    def _start_reading(self, block: int) -> Future[NDArray[np.bool_]]:
        """Start reading a block into its buffer, unless the buffer already holds it."""
        held = self._blocks[block % self._held]
        if held is None or held[0] != block:
            held = self._blocks[block % self._held] = block, self._pool.submit(self._read, block)
        return held[1]

    def _wait_for(self, t: int) -> NDArray[np.bool_]:
        return self._start_reading(self.blocks.locate(t)[0]).result()

    def _read(self, block: int) -> NDArray[np.bool_]:
        """Read a block into its buffer and return, for each iterate, whether it is finite."""
        K = self.run.parameters.size
        buffer = self._buffers[block % self._held]
        if buffer is None:
            dtype = getattr(torch, self.run.weights.dtype.name)
            buffer = self._buffers[block % self._held] = allocate_on_host((self.blocks.length, K), dtype, self.device)
        finite = np.ones(self.blocks.length, bool)
        # The copy uses NumPy because torch would start an OpenMP team in this thread. With more OpenMP threads than
        # cores, libgomp stops spinning between operations, and every pass takes 20 % longer.
        rows = buffer.numpy()
        for top in range(0, K, READ_ROWS):
            columns = self.run.iterates(block, slice(top, min(top + READ_ROWS, K)))
            n = columns.shape[1]
            rows[:n, top : top + READ_ROWS] = columns.T
            finite[:n] &= np.isfinite(columns).all(axis=0)
        return finite
