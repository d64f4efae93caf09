"""theta (K,) -> the loss over a whole split and its gradient (K,)."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from lca.errors import LCAError
from lca.integrate import Evaluation
from lca.parameters import ParameterTable, flatten, trainable, views
from lca.problem import Batch, Losses, per_example

# What is worth trying, by kind of device.
BATCH_SIZES = defaultdict(
    lambda: (1_000, 5_000),
    cpu=(125, 250, 500, 1_000, 2_000, 5_000),
    cuda=(1_000, 5_000, 20_000, 100_000),
)


class FullGradient:
    """L(θ) = (1/N) Σ_n ℓ_n(θ) and ∇L(θ), over every example of a split; a context manager.

    Inside the context the model's parameters and their gradients are views of two flat vectors (K,), so setting θ,
    zeroing and reading a gradient are each one call. On leaving it the model is as it was before.

    data: the split, on the model's device. It is cut into batches of batch_size in index order; the last one may be
    smaller and weighs what it should. Dropout is off. BatchNorm runs on the statistics of each batch, and its running
    buffers are neither used nor changed; for such a model the batches are a part of what L means.
    """

    def __init__(self, model: nn.Module, losses: Losses, data: Batch, batch_size: int) -> None:
        self.model, self.losses, self.data, self.batch_size = model, losses, data, batch_size
        self.table = ParameterTable.of(model)
        self.n_passes = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.theta = flatten(self.model)
            self.gradient = torch.zeros_like(self.theta)
            stack.enter_context(full_precision())
            stack.enter_context(evaluation_mode(self.model))
            stack.enter_context(_bound(self.model, views(self.theta, self.table), views(self.gradient, self.table)))
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._leave.close()

    def __call__(self, theta: Tensor) -> Evaluation:
        """One pass over the split. No host synchronisation. The result shares no memory with this object."""
        N = len(self.data[0])
        self.theta.copy_(theta)
        self.gradient.zero_()
        loss = torch.zeros((), dtype=torch.float64, device=theta.device)
        for begin in range(0, N, self.batch_size):
            batch = tuple(x[begin : begin + self.batch_size] for x in self.data)
            losses = per_example(self.losses, self.model, batch)
            (losses.sum() / N).backward()  # type: ignore[no-untyped-call]
            loss += losses.detach().sum(dtype=torch.float64)
        self.n_passes += 1
        return Evaluation(loss / N, self.gradient.clone())


def fastest_batch_size(model: nn.Module, losses: Losses, data: Batch) -> int:
    """The batch size with the shortest pass over the split, for a model whose loss does not depend on it.

    A short probe on the data's device: what is too large for its memory is left out.
    """
    N = len(data[0])
    sizes = sorted({min(size, N) for size in BATCH_SIZES[data[0].device.type]})
    seconds: dict[int, float] = {}
    for size in sizes:
        sample = tuple(x[:size] for x in data)
        try:
            with FullGradient(model, losses, sample, size) as gradient:
                seconds[size] = min(_time(gradient) for _ in range(3)) / size
        except RuntimeError as error:  # torch.OutOfMemoryError, and what the CPU's allocator raises, are such
            if "memory" not in str(error):
                raise
            break
    if not seconds:
        raise LCAError(
            f"a batch of {sizes[0]:,} examples does not fit into the memory of {data[0].device}. "
            "Give a smaller one with --batch-size, or another device."
        )
    return min(seconds, key=lambda size: seconds[size])


def _time(gradient: FullGradient) -> float:
    """Wall seconds of a pass."""
    begin = time.perf_counter()
    float(gradient(gradient.theta).loss)  # waits for the device
    return time.perf_counter() - begin


def has_batchnorm(model: nn.Module) -> bool:
    """Whether a loss of this model depends on which examples share a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode but those with running statistics, which use those of the batch and keep none."""
    modes = [(module, module.training) for module in model.modules()]
    tracking: list[Any] = [module for module, _ in modes if getattr(module, "track_running_stats", False)]
    model.eval()
    for module in tracking:
        module.training, module.track_running_stats = True, False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module in tracking:
            module.track_running_stats = True


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 means float32 inside: no TF32 in matrix products or convolutions."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.fp32_precision = before


@contextmanager
def _bound(model: nn.Module, thetas: list[Tensor], gradients: list[Tensor]) -> Iterator[None]:
    tensors = trainable(model).values()
    before = [(tensor.data, tensor.grad) for tensor in tensors]
    for tensor, theta, gradient in zip(tensors, thetas, gradients, strict=True):
        tensor.data, tensor.grad = theta, gradient
    try:
        yield
    finally:
        for tensor, (data, grad) in zip(tensors, before, strict=True):
            tensor.data, tensor.grad = data, grad
