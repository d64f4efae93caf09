"""Every iterate of an optimizer, θ_0 first, into a run store."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lca.errors import Interrupted, LCAError, UsageError
from lca.model.parameters import build_table, get_named_parameters, require_same_model
from lca.model.vectors import assign, choose_dtype
from lca.problem.provenance import describe_fixed, require_same_fixed
from lca.recording import resume_state
from lca.recording.block_writer import BlockWriter
from lca.recording.staging import Staging
from lca.store.paths import locate
from lca.store.run import open_run
from lca.store.run_writer import RunWriter, create_run

# What is written counts, and a state to resume from is saved, at the end of a block, but not more often than this, nor
# so often that it takes more than a twentieth of the time.
COMMIT_S = 1.0
COMMIT_SHARE = 0.05

# The kinds of numbers that a run store holds without loss, as float32 or, the last, as float64.
REAL = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

Scalar = float | Tensor


class Recorder:
    """Record a training loop of any kind; a context manager.

        with lca.Recorder("run.zarr", model) as recorder:
            recorder.attach(optimizer)
            ...                                       # train

    θ_0 is taken on entry. An iterate costs the training one flat copy; a thread of its own compresses and writes whole
    blocks of them, and holds the training up only where the disk is slower. On leaving, also by an exception, what is
    left is written; the store is complete unless it was an exception.

    model: may be compiled, or wrapped for data-parallel training (then rank 0 records, and the others do nothing).
    Its trainable parameters are recorded, tied ones once.
    parameters: a regular expression; only the parameters with a match in their names are recorded.
    codec: "zstd", "lz4" (fastest) or "pcodec" (smallest); all lossless.
    attributes: what the store says of the run, such as the problem and its configuration.
    state: called in the training's thread, now and then and at the end, for what the training needs to go on later:
    a mapping of tensors and plain values that nobody changes afterwards.
    resume: go on with the store that is there, after the last state saved in it. On entry the model then gets the last
    iterate up to there, and `n_iterates` and `state` tell the training where it is.
    """

    def __init__(
        self,
        path: Path | str,
        model: nn.Module,
        *,
        parameters: str | None = None,
        codec: str = "zstd",
        attributes: Mapping[str, Any] | None = None,
        state: Callable[[], Mapping[str, Any]] | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.path, self.codec, self.overwrite, self.resume = locate(path), codec, overwrite, resume
        self.attributes, self._capture = dict(attributes or {}), state
        self.active = _rank() == 0
        self._model, self._recording = model, False
        named = get_named_parameters(model)
        _require_recordable(named)
        self._frozen = {name for name, tensor in named.items() if not tensor.requires_grad}
        chosen = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
        if parameters is not None:
            chosen = {name: tensor for name, tensor in chosen.items() if re.search(parameters, name)}
            if not chosen:
                raise UsageError(
                    f"no trainable parameter has a match for {parameters!r}; there are {', '.join(named)}."
                )
        self.table = build_table(model, chosen)
        self._chosen, self._tensors = chosen, list(chosen.values())

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
            self._start_block()
            self._stack = stack.pop_all()
        self._recording = True
        if not self.n_iterates:
            self._take()
        return self

    def attach(self, optimizer: Optimizer, scaler: torch.amp.GradScaler | None = None) -> None:
        """Record after every step of the optimizer, with its learning rate, until the recorder is left.

        scaler: a gradient scaler skips the step where gradients overflow, and the optimizer never hears of it. Given
        here, such an iteration is recorded as well, as one without motion, when the scaler is updated.
        """
        optimizer = _unwrap(optimizer)
        if optimizer in self._attached:
            raise UsageError("this optimizer is attached already: each of its steps would be recorded twice.")
        self._attached.append(optimizer)
        stepped = False

        def after_step(*_: object) -> None:
            nonlocal stepped
            stepped = True
            self.record(learning_rate=optimizer.param_groups[0]["lr"])

        self._detach.append(optimizer.register_step_post_hook(after_step).remove)
        if scaler is not None:
            update = scaler.update

            def update_and_record(*arguments: Any, **options: Any) -> None:
                nonlocal stepped
                if not stepped:
                    after_step()
                stepped = False
                update(*arguments, **options)

            scaler.update = update_and_record  # type: ignore[method-assign]
            self._detach.append(lambda: setattr(scaler, "update", update))

    def log(self, **scalars: Scalar) -> None:
        """Scalars of the iteration under way; they go with its iterate.

        A tensor without dimensions is as good as a number, and is not waited for.
        """
        for name, value in scalars.items():
            self._pending[name] = value.detach().clone() if isinstance(value, Tensor) else value

    def record(self, **scalars: Scalar) -> None:
        """Take the model's parameters as the next iterate, with scalars of the iteration that led to it."""
        if not self.active:
            return
        if not self._recording:
            raise LCAError(f"nothing records into {self.path}: use the recorder inside its `with`.")
        self.log(**scalars)
        self._scalars.append(self._pending)
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
                self._write_block()
                self._commit(with_state=clean)
            finally:
                self._writer.close()
                del self._writer, self._staging, self._buffer  # whole blocks, which a reference to this might keep
            if exception is None:
                self._run_writer.finish()

    def _open(self) -> RunWriter:
        if not self.resume:
            return create_run(
                self.path,
                self.table,
                {**self.attributes, "fixed": describe_fixed(self._model)},
                dtype=str(choose_dtype(self._tensors)).removeprefix("torch."),
                codec=self.codec,
                overwrite=self.overwrite,
            )
        run = open_run(self.path, "r+")
        require_same_model(run, self._chosen, self.table, "the model")
        require_same_fixed(run, self._model)
        return RunWriter(run)

    @torch.no_grad()
    def _return_to_state(self) -> None:
        self.state = resume_state.load(self.run)
        self.n_iterates = self.state["iterates"] if self.state else 0
        self._run_writer.truncate(self.n_iterates)
        if self.n_iterates:
            assign(self._tensors, torch.from_numpy(self.run.weights[:, self.n_iterates - 1]), self.table)

    def _take(self) -> None:
        self._staging.take(self._buffer[self._n_rows])
        self._n_rows += 1
        self.n_iterates += 1
        if self._n_rows == self.run.blocks.length:
            self._write_block()
            if time.monotonic() - self._committed >= max(COMMIT_S, self._writer.commit_s / COMMIT_SHARE):
                self._commit()
            self._start_block()

    def _start_block(self) -> None:
        """An empty buffer, or one with what an earlier process recorded of the block."""
        self._buffer = self._writer.buffer()
        self._n_rows = self.n_iterates % self.run.blocks.length
        if self._n_rows:
            recorded = self.run.weights[:, self.n_iterates - self._n_rows : self.n_iterates]
            self._buffer[: self._n_rows] = torch.from_numpy(recorded).T

    def _write_block(self) -> None:
        _require_unchanged(self._model, self._chosen, self._frozen)
        if self._n_rows:
            begin = self.n_iterates - self._n_rows
            self._writer.write(begin, self._buffer, self._n_rows, self._staging.event())
            self._n_rows = 0

    def _commit(self, with_state: bool = True) -> None:
        state = self._capture() if with_state and self._capture else None
        self._writer.commit(self.n_iterates, self._scalars, state)
        self._scalars = []
        self._committed = time.monotonic()


def _require_unchanged(model: nn.Module, chosen: Mapping[str, Tensor], frozen: Collection[str]) -> None:
    """Raise LCAError if a parameter was thawed or replaced since recording began."""
    for name, tensor in get_named_parameters(model).items():
        if name in frozen and tensor.requires_grad:
            raise LCAError(
                f"{name} did not require a gradient when recording began, and does now, so its motion is not recorded",
                remedy="Let it require one from the start, and freeze it by leaving it out of the optimizer.",
            )
        if chosen.get(name, tensor) is not tensor:
            raise LCAError(
                f"{name} is a different tensor than when recording began, so its motion is not recorded",
                remedy="Begin to record after the model has its final parameters.",
            )


def _unwrap(optimizer: Any) -> Optimizer:
    """The optimizer in the wrapper that `accelerate` gives, which hands its steps on and takes no hooks itself.

    No other wrapper is opened: one that moves the parameters after the step inside would be recorded too early.
    """
    inner: Optimizer = optimizer.optimizer if type(optimizer).__module__.startswith("accelerate.") else optimizer
    return inner


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def _require_recordable(named: Mapping[str, Tensor]) -> None:
    for name, tensor in named.items():
        if type(tensor).__module__.startswith("torch.distributed"):
            raise LCAError(
                f"{name} is sharded over processes ({type(tensor).__name__}), and no process has the whole of it. "
                "Train with DistributedDataParallel, or on one device, to record."
            )
        if name.split(".")[-1] == "_flat_param":
            raise LCAError(
                f"{name} is a shard of FullyShardedDataParallel. Train with DistributedDataParallel to record."
            )
        if tensor.requires_grad and tensor.is_complex():
            raise LCAError(
                f"{name} is {tensor.dtype}; a loss change is allocated to real numbers. Make parameters of the real "
                "and the imaginary part, such as nn.Parameter(torch.view_as_real(z)), and join them in forward with "
                "torch.view_as_complex."
            )
        if tensor.requires_grad and tensor.dtype not in REAL:
            expected = f"one of {', '.join(map(str, REAL))}"
            raise LCAError(f"the dtype of {name}", expected=expected, found=str(tensor.dtype))
