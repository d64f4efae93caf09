"""The recorder, which writes every iterate of an optimizer to a run store, beginning with θ_0."""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lca.errors import Interrupted, LCAError, UsageError
from lca.model.parameters import build_table, get_named_parameters, require_same_model
from lca.model.vectors import assign, choose_dtype
from lca.problem.problem import Problem
from lca.problem.provenance import require_same_frozen
from lca.recording import resume_state
from lca.recording.block_writer import BlockWriter
from lca.recording.endpoints import Endpoints
from lca.recording.recordable import require_recordable, require_unchanged
from lca.recording.staging import Staging
from lca.recording.step_hooks import unwrap, watch_steps
from lca.store import chunks
from lca.store.names import require_name
from lca.store.parameters import ParameterTable
from lca.store.paths import Location, locate
from lca.store.run import open_run
from lca.store.run_writer import RunWriter, create_run

# The number of iterates and the state for resuming are stored at the end of a block, but at most once per COMMIT_S
# seconds, and rarely enough to take at most the fraction COMMIT_SHARE of the time.
COMMIT_S = 1.0
COMMIT_SHARE = 0.05

Scalar = float | Tensor


class Recorder:
    """Context manager that records the iterates of any training loop.

    θ_0 is recorded on entry. Each further iterate interrupts training only to copy the parameters. A background thread
    compresses and writes whole blocks, and training waits only if it is faster than the disk. On exit, the remaining
    iterates are written, and the run is marked as complete, unless an exception was raised.

    Args:
        path: Path or URL of the run.
        model: Model whose trainable parameters are recorded. Tied parameters are recorded once. The model may be
            compiled, or wrapped for data-parallel training, in which case only rank 0 records.
        problem: Problem being trained. If given, the run stores digests of its data and the loss of a few examples at
            the first and last iterate, from which `lca.allocate` detects a different model, loss or dataset.
        parameters: Regular expression. Only parameters whose names contain a match are recorded.
        codec: Lossless compression: ``"zstd"``, ``"lz4"`` (fastest) or ``"pcodec"`` (smallest).
        attributes: Information to store with the run, such as its configuration.
        state: Function that returns what training needs to resume: a mapping of tensors and plain values that are
            not modified afterwards. It is called in the training thread, from time to time and at the end.
        overwrite: Whether to replace an existing run.
        resume: Whether to continue an existing run from its last stored state. On entry, the model is then set to
            the matching iterate, and ``n_iterates`` and ``state`` show where training continues.

    Attributes:
        n_iterates: Number of iterates recorded so far.
        state: State from which training resumes, or None.

    Raises:
        UsageError: If no trainable parameter matches ``parameters``, or if the problem has a different model.
        LCAError: If a parameter cannot be recorded, or if the run is being written by another process.

    Example:
        >>> with lca.Recorder("run.zarr", model) as recorder:
        ...     recorder.attach(optimizer)
        ...     train(model, optimizer)
    """

    def __init__(
        self,
        path: Path | str,
        model: nn.Module,
        *,
        problem: Problem | None = None,
        parameters: str | None = None,
        codec: str = "zstd",
        attributes: Mapping[str, Any] | None = None,
        state: Callable[[], Mapping[str, Any]] | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.path, self.codec, self.overwrite, self.resume = locate(path), codec, overwrite, resume
        self.attributes, self._capture = dict(attributes or {}), state
        self.active = _get_rank() == 0
        self._model, self._recording = model, False
        self._endpoints = Endpoints(model, problem)
        named = get_named_parameters(model)
        require_recordable(named)
        self._frozen = {name for name, tensor in named.items() if not tensor.requires_grad}
        self._chosen = _choose_parameters(named, parameters)
        self._tensors = list(self._chosen.values())
        self.table = build_table(model, self._chosen)

    def __enter__(self) -> Self:
        self.state: Mapping[str, Any] | None = None
        self.n_iterates = 0
        self._pending: dict[str, Scalar] = {}
        self._detach: list[Callable[[], None]] = []
        self._attached: list[Optimizer] = []
        if not self.active:
            return self
        with ExitStack() as stack:
            self._run_writer = self._open()
            self.run = self._run_writer.run
            stack.enter_context(self._run_writer.lock())
            if self.resume:
                self._return_to_state()
            device = self._tensors[0].device
            self._staging = Staging(self.table, self._tensors, choose_dtype(self._tensors), device)
            self._writer = BlockWriter(self._run_writer, device)
            self._scalars: list[dict[str, Scalar]] = []
            self._committed = time.monotonic()
            self._length = self.run.blocks.length
            self._buffer, self._n_rows = self._writer.buffer(), 0
            self._stack = stack.pop_all()
        self._recording = True
        if not self.n_iterates:
            self._take()
        return self

    @property
    def first_not_finite(self) -> int | None:
        """The number of the first iterate on disk with a parameter that is NaN or infinite. None if there is none."""
        return self._writer.first_not_finite if self.active else None

    def attach(self, optimizer: Optimizer, scaler: torch.amp.GradScaler | None = None) -> None:
        """Record an iterate and the learning rate after every step of the optimizer, until the recorder exits.

        Args:
            optimizer: Optimizer of the loop.
            scaler: Gradient scaler of the loop, if any. If gradients overflow, a scaler skips the step without calling
                the optimizer. With `scaler`, a skipped step is recorded as an iteration without motion.

        Raises:
            UsageError: If the optimizer is already attached.
        """
        optimizer = unwrap(optimizer)
        if optimizer in self._attached:
            what = "the optimizer is already attached, so each step would be recorded twice"
            raise UsageError(what, remedy="Attach each optimizer once.")
        self._attached.append(optimizer)
        self._detach += watch_steps(
            optimizer, scaler, lambda: self.record(learning_rate=optimizer.param_groups[0]["lr"])
        )

    def log(self, **scalars: Scalar) -> None:
        """Store scalars with the current iteration.

        Args:
            **scalars: Numbers or zero-dimensional tensors. Tensors are copied without waiting for the device.
        """
        self._pending |= _detach(scalars)

    def record(self, **scalars: Scalar) -> None:
        """Record the model's parameters as the next iterate.

        Args:
            **scalars: Scalars of the iteration that led to this iterate, as in `log`.

        Raises:
            LCAError: If the recorder is not active, that is, outside its ``with`` block.
        """
        if not self.active:
            return
        if not self._recording:
            raise LCAError(f"the recorder of {self.path} is not active", remedy="Use it inside its `with` block.")
        self._endpoints.observe_modes()
        self._scalars.append(self._pending | _detach(scalars))
        self._pending = {}
        self._take()

    def __exit__(self, kind: object, exception: object, trace: object) -> None:
        for detach in self._detach:
            detach()
        self._recording = False
        if not self.active:
            return
        clean = exception is None or isinstance(exception, Interrupted)
        with self._stack:
            try:
                self._write_rows()
                self._commit(with_state=clean)
            finally:
                self._writer.close()
                del self._staging, self._buffer  # frees the blocks, even if the recorder is still referenced
            if exception is None:
                self._run_writer.set_attributes(**self._endpoints.describe_end(self.run))
                self._run_writer.finish()

    def _open(self) -> RunWriter:
        if self.resume:
            return _reopen(self.path, self._model, self._chosen, self.table)
        attributes = self._endpoints.describe_start(self.attributes)
        dtype = str(choose_dtype(self._tensors)).removeprefix("torch.")
        return create_run(self.path, self.table, attributes, dtype=dtype, codec=self.codec, overwrite=self.overwrite)

    @torch.no_grad()
    def _return_to_state(self) -> None:
        self.state = resume_state.load(self.run)
        self.n_iterates = self.state["iterates"] if self.state else 0
        self._run_writer.truncate(self.n_iterates)
        if self.n_iterates:
            assign(self._tensors, torch.from_numpy(self.run.iterate(self.n_iterates - 1)), self.table)

    def _take(self) -> None:
        self._staging.take(self._buffer[self._n_rows])
        self._n_rows += 1
        self.n_iterates += 1
        age, rarely = time.monotonic() - self._committed, self._writer.commit_s / COMMIT_SHARE
        is_overdue = self._length > chunks.BLOCK and age >= max(chunks.PARTIAL_S, rarely)
        if is_overdue or self.n_iterates % self._length == 0:
            self._write_rows()
            if age >= max(COMMIT_S, rarely):
                self._commit()
            self._buffer = self._writer.buffer()

    def _write_rows(self) -> None:
        require_unchanged(self._model, self._chosen, self._frozen)
        if self._n_rows:
            begin = self.n_iterates - self._n_rows
            self._writer.write(begin, self._buffer, self._n_rows, self._staging.event())
            self._n_rows = 0

    def _commit(self, with_state: bool = True) -> None:
        state = self._capture() if with_state and self._capture else None
        self._writer.commit(self.n_iterates, self._scalars, state)
        self._scalars, self._committed = [], time.monotonic()


def _detach(scalars: Mapping[str, Scalar]) -> dict[str, Scalar]:
    for name in scalars:
        require_name("name of a training scalar", name)
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in scalars.items()}


def _choose_parameters(named: Mapping[str, Tensor], pattern: str | None) -> dict[str, Tensor]:
    """Return the trainable parameters whose names match the pattern. Raise UsageError if there are none."""
    trainable = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    chosen = {name: tensor for name, tensor in trainable.items() if pattern is None or re.search(pattern, name)}
    if pattern is not None and not chosen:
        raise UsageError(
            f"no trainable parameter matches {pattern!r}", remedy=f"The parameters are {', '.join(named)}."
        )
    return chosen


def _reopen(path: Location, model: nn.Module, chosen: Mapping[str, Tensor], table: ParameterTable) -> RunWriter:
    """Open a run to continue it. Raise LCAError if it was recorded from a different model."""
    run = open_run(path, "r+")
    require_same_model(run, chosen, table, "the model")
    require_same_frozen(run, model)
    return RunWriter(run)


def _get_rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
