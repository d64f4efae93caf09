"""A thread that transposes, compresses and writes blocks of iterates while the training goes on."""

import asyncio
import errno
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lca.errors import Argument, LCAError
from lca.recording import resume_state
from lca.store.run_writer import RunWriter

# One is filled by the training while the other is written; the training waits if it is faster than the disk.
N_BUFFERS = 2

Scalars = Sequence[Mapping[str, float | Tensor]]
Floats = NDArray[np.floating[Any]]


class BlockWriter:
    """Does its jobs in order, so that neither a count nor a state comes to disk before the iterates it counts.

    An error of the thread, such as a full disk, is raised to the training at its next block; nothing is written after.
    """

    def __init__(self, writer: RunWriter, device: torch.device) -> None:
        self.writer, self.run = writer, writer.run
        run = writer.run
        self.commit_s = 0.0  # what the last commit took
        K, pinned = run.parameters.size, device.type == "cuda"
        dtype = getattr(torch, run.weights.dtype.name)
        self._last: Floats | None = None
        self._moved: list[bool] = []
        self._free: queue.Queue[Tensor] = queue.Queue()
        for _ in range(N_BUFFERS):
            self._free.put(torch.empty(run.blocks.length, K, dtype=dtype, pin_memory=pinned))
        self._jobs: queue.Queue[Callable[[asyncio.Runner], None] | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="lca-writer", daemon=True)
        self._thread.start()

    def buffer(self) -> Tensor:
        """A buffer (block, K) to fill; waits until one is free."""
        buffer = self._free.get()
        self._raise_error()
        return buffer

    def write(self, begin: int, buffer: Tensor, n: int, ready: torch.cuda.Event | None) -> None:
        """Write the first n rows of a buffer, the iterates from begin on, once they are ready, and free it."""
        self._jobs.put(lambda runner: self._write(runner, begin, buffer, n, ready))

    def commit(self, n_iterates: int, scalars: Scalars, state: Mapping[str, Any] | None) -> None:
        """Count the iterates; scalars: a mapping for each iteration since the last commit; state: to resume from."""
        self._jobs.put(lambda _: self._commit(n_iterates, scalars, state))

    def close(self) -> None:
        """Finish the remaining jobs and stop."""
        self._jobs.put(None)
        self._thread.join()
        self._raise_error()

    def _raise_error(self) -> None:
        error = self._error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LCAError(
                f"the disk is full: {self.run.path} holds {self.run.n_iterates:,} iterates and is sound",
                remedy=("Free some space, then continue by passing ", Argument("resume", True), "."),
            ) from error
        if error:
            raise error

    def _work(self) -> None:
        _stay_behind()
        with ThreadPoolExecutor(os.cpu_count(), initializer=_stay_behind) as pool, asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(pool)
            while (job := self._jobs.get()) is not None:
                try:
                    job(runner)
                except Exception as error:
                    self._error = error

    def _write(
        self, runner: asyncio.Runner, begin: int, buffer: Tensor, n: int, ready: torch.cuda.Event | None
    ) -> None:
        try:
            if self._error:
                return  # what comes after a gap is of no use
            if ready:
                ready.synchronize()
            rows = buffer[:n].numpy()
            if self._last is None and begin:
                self._last = np.asarray(self.run.weights[:, begin - 1])
            self._moved += find_moved(self._last, rows)
            self._last = rows[-1].copy()
            runner.run(self.writer.write_iterates(begin, rows))
        finally:
            self._free.put(buffer)

    def _commit(self, n_iterates: int, scalars: Scalars, state: Mapping[str, Any] | None) -> None:
        if self._error:
            return
        begin = time.monotonic()
        training = {**stack_scalars(scalars), "moved": np.array(self._moved, np.float64)}
        self.writer.commit(n_iterates, training)
        self._moved = []
        if state is not None:
            resume_state.save(self.run, {"iterates": n_iterates, **state})
        self.commit_s = time.monotonic() - begin


def find_moved(last: Floats | None, rows: Floats) -> list[bool]:
    """Whether each iteration between the iterates, last (K,) before rows (n, K), changed any bit of them."""
    before = rows[:-1] if last is None else [last, *rows[:-1]]
    return [_differ(a, b) for a, b in zip(before, rows[len(rows) - len(before) :], strict=True)]


def stack_scalars(scalars: Scalars) -> dict[str, NDArray[np.float64]]:
    """One array (iteration,) per name, NaN in the iterations that do not have it."""
    names = dict.fromkeys(name for row in scalars for name in row)
    return {name: np.array([float(row.get(name, np.nan)) for row in scalars]) for name in names}


def _differ(a: Floats, b: Floats) -> bool:
    """Whether any bit differs. Where anything moved, a small sample nearly always shows it."""
    a, b = (x.view(f"u{x.itemsize}") for x in (a, b))
    step = max(1, len(a) // 1000)
    return not np.array_equal(a[::step], b[::step]) or not np.array_equal(a, b)


def _stay_behind() -> None:
    """Give the thread the lowest priority, so that it takes the cores that the training leaves."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
