"""A thread that transposes, compresses and writes blocks of iterates while training continues."""

import asyncio
import errno
import os
import queue
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
from lca.runtime.streams import allocate_on_host
from lca.store.run_writer import RunWriter

# Training fills one buffer while the other is written. If training is faster than the disk, it waits.
N_BUFFERS = 2

Scalars = Sequence[Mapping[str, float | Tensor]]
Floats = NDArray[np.floating[Any]]


class BlockWriter:
    """Writes blocks in a background thread.

    Jobs run in order, so that iterates reach the disk before the number of iterates and the state for resuming. After
    an error in the thread, such as a full disk, nothing more is written, and the next call of `buffer` or `close`
    raises the error.
    """

    def __init__(self, writer: RunWriter, device: torch.device) -> None:
        self.writer, self.run = writer, writer.run
        run = writer.run
        self.commit_s = 0.0  # duration of the last commit
        self.first_not_finite: int | None = None  # number of the first iterate with a parameter that is NaN or infinite
        shape = run.blocks.length, run.parameters.size
        dtype = getattr(torch, run.weights.dtype.name)
        self._last: Floats | None = None
        self._moved: list[bool] = []
        self._free: queue.Queue[Tensor] = queue.Queue()
        for _ in range(N_BUFFERS):
            self._free.put(allocate_on_host(shape, dtype, device))
        self._jobs: queue.Queue[Callable[[asyncio.Runner], None] | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="lca-writer", daemon=True)
        self._thread.start()

    def buffer(self) -> Tensor:
        """Wait until a buffer is free, and return it. Its shape is (block length, K)."""
        buffer = self._free.get()
        self._raise_error()
        return buffer

    def write(self, begin: int, buffer: Tensor, n: int, ready: torch.Event | None) -> None:
        """Queue a job that writes the first n rows of a buffer as the iterates from `begin` on, and frees the buffer.

        The job waits for the event `ready`, if there is one.
        """
        self._jobs.put(lambda runner: self._write(runner, begin, buffer, n, ready))

    def commit(self, n_iterates: int, scalars: Scalars, state: Mapping[str, Any] | None) -> None:
        """Queue a job that stores the number of iterates, the scalars and the state for resuming.

        `scalars` contains a mapping for each iteration since the last commit. `state` is None if there is no state to
        store.
        """
        self._jobs.put(lambda _: self._commit(n_iterates, scalars, state))

    def close(self) -> None:
        """Finish the remaining jobs and stop the thread."""
        self._jobs.put(None)
        self._thread.join()
        del self._free, self._last  # the buffers take as much memory as whole blocks
        self._raise_error()

    def _raise_error(self) -> None:
        error = self._error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LCAError(
                f"the disk is full. {self.run.path} is intact and holds {self.run.n_iterates:,} iterates",
                remedy=("Free some space, then continue by passing ", Argument("resume", True), "."),
            ) from error
        if error:
            raise error

    def _work(self) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool, asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(pool)
            while (job := self._jobs.get()) is not None:
                try:
                    job(runner)
                except Exception as error:
                    self._error = error

    def _write(self, runner: asyncio.Runner, begin: int, buffer: Tensor, n: int, ready: torch.Event | None) -> None:
        try:
            if self._error:
                return  # iterates after a gap are useless
            if ready:
                ready.synchronize()
            rows = buffer[:n].numpy()
            if self._last is None and begin:
                self._last = self.run.iterate(begin - 1)
            self._moved += find_moved(self._last, rows)
            # A parameter never becomes finite again, so the last row shows whether there is anything to find.
            if self.first_not_finite is None and not np.isfinite(rows[-1]).all():
                self.first_not_finite = begin + int(np.argmin(np.isfinite(rows).all(axis=1)))
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
    """Return, for each iteration, whether it changed any bit of the parameters.

    `rows` has shape (n, K) and contains consecutive iterates. `last`, (K,), is the iterate before them, if there is
    one.
    """
    before = rows[:-1] if last is None else [last, *rows[:-1]]
    return [_has_changed(a, b) for a, b in zip(before, rows[len(rows) - len(before) :], strict=True)]


def stack_scalars(scalars: Scalars) -> dict[str, NDArray[np.float64]]:
    """Return one array per scalar name, of shape (iteration,), with NaN for iterations that lack the scalar."""
    names = dict.fromkeys(name for row in scalars for name in row)
    return {name: np.array(read_numbers([row.get(name, np.nan) for row in scalars])) for name in names}


def read_numbers(values: Sequence[float | Tensor]) -> list[float]:
    """Return the values as numbers. All tensors of one dtype on one device are read at once."""
    alike: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            alike.setdefault((value.dtype, value.device), []).append(i)
    numbers = list(values)
    for places in alike.values():
        together = torch.stack([torch.as_tensor(values[i]).reshape(()) for i in places]).tolist()
        for i, number in zip(places, together, strict=True):
            numbers[i] = number
    return [float(number) for number in numbers]


def _has_changed(a: Floats, b: Floats) -> bool:
    """Return whether two iterates differ in any bit. A sample, which nearly always differs, is compared first."""
    a, b = (x.view(f"u{x.itemsize}") for x in (a, b))
    step = max(1, len(a) // 1000)
    return not np.array_equal(a[::step], b[::step]) or not np.array_equal(a, b)
