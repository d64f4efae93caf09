"""A thread that transposes, compresses and writes blocks of iterates while the training goes on."""

import errno
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lca import checkpoint
from lca.errors import LCAError
from lca.store import Run

# One is filled by the training while the other is written; the training waits if it is faster than the disk.
N_BUFFERS = 2


@dataclass(frozen=True)
class Block:
    """Iterates begin … begin + n − 1 in the first n rows of buffer (block, K).

    scalars: what was told of the iterations that led to them, one mapping each; θ_0 has none.
    ready: recorded after the last copy into the buffer, where that is asynchronous.
    """

    begin: int
    buffer: Tensor
    n: int
    scalars: Sequence[Mapping[str, float | Tensor]]
    ready: torch.cuda.Event | None = None


class BlockWriter:
    """Writes what it is handed in order: a state never comes to disk before the iterates that lead to it.

    An error of the thread, such as a full disk, is raised to the training at its next block; nothing is written after.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run = run
        K, pinned = run.parameters.size, device.type == "cuda"
        self._columns = np.empty((K, run.block), np.float32)
        self._last: NDArray[np.float32] | None = None
        self._free: queue.Queue[Tensor] = queue.Queue()
        for _ in range(N_BUFFERS):
            self._free.put(torch.empty(run.block, K, pin_memory=pinned))
        self._jobs: queue.Queue[Block | Mapping[str, Any] | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="lca-writer", daemon=True)
        self._thread.start()

    def buffer(self) -> Tensor:
        """A buffer (block, K) to fill; waits until one is free."""
        buffer = self._free.get()
        self._raise()
        return buffer

    def write(self, block: Block) -> None:
        self._jobs.put(block)

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state to resume from, in place of the one before."""
        self._jobs.put(state)

    def close(self) -> None:
        """Write what is left and stop."""
        self._jobs.put(None)
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        error = self._error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LCAError(
                f"the disk is full: {self.run.path} holds {self.run.n_iterates:,} iterates and is sound. "
                "Make room, and go on with the same command and --resume."
            ) from error
        if error:
            raise error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error:
                    pass  # what comes after a gap is of no use
                elif isinstance(job, Block):
                    self._write(job)
                else:
                    checkpoint.save(self.run, job)
            except Exception as error:
                self._error = error
            finally:
                if isinstance(job, Block):
                    self._free.put(job.buffer)

    def _write(self, block: Block) -> None:
        if block.ready:
            block.ready.synchronize()
        rows = block.buffer[: block.n].numpy()
        columns = self._columns.reshape(-1)[: rows.size].reshape(rows.shape[::-1])
        np.copyto(columns, rows.T)
        self.run.write_iterates(
            block.begin, columns, {**_by_name(block.scalars), "moved": self._moved(block.begin, rows)}
        )

    def _moved(self, begin: int, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """1 for each iteration that changed any bit of the parameters, 0 for one that did not: a skipped step, say."""
        if self._last is None and begin:
            self._last = np.asarray(self.run.weights[:, begin - 1])
        before = rows[:-1] if self._last is None else np.concatenate([self._last[None], rows[:-1]])
        self._last = rows[-1].copy()
        after = rows[len(rows) - len(before) :]
        sample = slice(None, None, max(1, rows.shape[1] // 1000))
        moved = _differ(before[:, sample], after[:, sample])
        for t in np.flatnonzero(~moved):  # seldom: where a sample moved, the whole has
            moved[t] = _differ(before[t], after[t])
        return moved.astype(np.float64)


def _differ(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether any bit differs, along the last axis; NaN equals itself."""
    return np.asarray((a.view(np.uint32) != b.view(np.uint32)).any(axis=-1))


def _by_name(scalars: Sequence[Mapping[str, float | Tensor]]) -> dict[str, NDArray[np.float64]]:
    """One array (iteration,) per name, NaN in the iterations that do not have it."""
    names = dict.fromkeys(name for row in scalars for name in row)
    return {name: np.array([float(row.get(name, np.nan)) for row in scalars]) for name in names}
