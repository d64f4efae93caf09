"""theta (K,) -> the loss over a whole split and its gradient (K,)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from lca.batch import Batch, cut, length, taken, tensors
from lca.graph import Pass, capture
from lca.integrate import Evaluation
from lca.parameters import ParameterTable, flatten, sum_by_tensor, trainable, views
from lca.precision import in_precision, require_precision
from lca.problem import Losses, per_example

SAMPLE = 16  # examples, where a few tell enough
DIRECTIONS = 2  # an iterate lies between two steps, so slopes along both are wanted there


class FullGradient:
    """L(θ) = (1/N) Σ_n ℓ_n(θ) and ∇L(θ), over every example of a split; a context manager.

    Inside the context the model's parameters and their gradients are views of two flat vectors (K,), so setting θ,
    zeroing and reading a gradient are each one call. On leaving it the model is as it was before. On CUDA a pass is one
    graph, or eager where that cannot be, with a note.

    data: the split, on the model's device. It is cut into batches of batch_size in order; the last one may be smaller
    and weighs what it should. Dropout is off. BatchNorm runs on the statistics of each batch, and its running buffers
    are neither used nor changed; for such a model the batches are a part of what L means.
    scale: what is done to a batch before the losses are computed, such as bytes to floats.
    groups: (N,) the class of each example, 0 … C−1; then evaluations have slopes. Without BatchNorm the examples have
    to be in the order of their classes, and a batch holds those of one class; with it there is a backward pass for each
    class in a batch.
    precision: of the passes, see PRECISIONS. compiled: run the model through torch.compile.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Losses,
        data: Batch,
        batch_size: int,
        *,
        scale: Callable[[Batch], Batch] | None = None,
        groups: Tensor | None = None,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.model, self.losses, self.data, self.batch_size = model, losses, data, batch_size
        self.scale, self.groups, self.precision, self.compiled = scale, groups, precision, compiled
        self.table = ParameterTable.of(model)
        self.device = tensors(data)[0].device
        require_precision(precision, self.device)
        self.n_examples = length(data)
        self.n_classes = 0 if groups is None else int(groups.max()) + 1
        self.n_passes = 0
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.theta = flatten(self.model)
            self.gradient = torch.zeros_like(self.theta)
            self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
            if self.groups is not None:
                self.total = torch.zeros_like(self.theta)
                self.lengths = torch.tensor(self.table.sizes, device=self.device)
                self.directions = torch.zeros(DIRECTIONS, self.table.size, dtype=torch.float64, device=self.device)
                shape = (DIRECTIONS, self.n_classes, len(self.table))
                self.slopes = torch.zeros(shape, dtype=torch.float64, device=self.device)
            self._batches = self._cut()
            self._passes: dict[str, Pass] = {}
            stack.enter_context(evaluation_mode(self.model))
            stack.enter_context(_bound(self.model, views(self.theta, self.table), views(self.gradient, self.table)))
            self._called = cast(nn.Module, torch.compile(self.model)) if self.compiled else self.model
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._passes.clear()  # and with them the memory of their graphs
        self._leave.close()

    def __call__(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """One pass over the split. No host synchronisation. The result shares no memory with this object.

        directions: at most two of (K,) in float64; with classes, the slopes along each are (direction, class, tensor),
        or (class, tensor) for a single one.
        """
        return self._evaluate(self.precision, theta, directions)

    def float32(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """The same in float32, whatever the precision."""
        return self._evaluate("fp32", theta, directions)

    def at_iterate(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """The same with the loss in float32: in bfloat16 it is off by up to 6e-4, which the residual would feel."""
        evaluation = self(theta, *directions)
        if self.precision != "bf16":
            return evaluation
        return replace(evaluation, loss=self.example_losses(theta).sum(dtype=torch.float64) / self.n_examples)

    def example_losses(self, theta: Tensor) -> Tensor:
        """ℓ_n(θ) (N,) of every example in the order of the data, in float32."""
        return self.of_examples(theta, partial(per_example, self.losses))

    @torch.no_grad()
    def of_examples(self, theta: Tensor, figure: Callable[[nn.Module, Batch], Tensor]) -> Tensor:
        """figure(model, batch) -> (B,), one value per example; all (N,) at θ in the order of the data, in float32."""
        self.theta.copy_(theta)
        batches = [batch for batch, _ in self._batches]
        with in_precision("fp32", self.device):
            return torch.cat([figure(self.model, self.scaled(batch)) for batch in batches])

    def scaled(self, batch: Batch) -> Batch:
        return self.scale(batch) if self.scale else batch

    @property
    def few_examples(self) -> Batch:
        """The first ones of a batch, to look what the model does with them."""
        return self.scaled(taken(self._batches[0][0], slice(SAMPLE)))

    def _cut(self) -> list[tuple[Batch, list[int]]]:
        """The batches, each with the classes in it; no class where they are not told apart."""
        if self.groups is None:
            return [(batch, []) for batch in cut(self.data, self.batch_size)]
        if has_batchnorm(self.model):
            parts = cut((self.data, self.groups), self.batch_size)
            return [(batch, torch.unique(groups).tolist()) for batch, groups in parts]
        ends = [0, *torch.bincount(self.groups).cumsum(0).tolist()]
        by_class = [taken(self.data, slice(begin, end)) for begin, end in pairwise(ends)]
        return [(batch, [c]) for c, data in enumerate(by_class) if length(data) for batch in cut(data, self.batch_size)]

    def _evaluate(self, precision: str, theta: Tensor, directions: tuple[Tensor, ...]) -> Evaluation:
        self.theta.copy_(theta)
        for i, direction in enumerate(directions):
            self.directions[i].copy_(direction)
        if precision not in self._passes:
            self._passes[precision], note = capture(partial(self._pass, precision), self.device)
            self.notes += [note] if note else []
        self._passes[precision]()
        self.n_passes += 1
        loss = self.loss / self.n_examples
        if self.groups is None:
            return Evaluation(loss, self.gradient.clone())
        slopes = self.slopes[0] if len(directions) == 1 else self.slopes[: len(directions)]
        return Evaluation(loss, self.total.clone(), slopes.clone())

    def _pass(self, precision: str) -> None:
        """theta -> loss, gradient; with classes also total and slopes. All of them stay where they are in memory."""
        self.loss.zero_()
        self.gradient.zero_()
        with in_precision(precision, self.device):
            if self.groups is None:
                for batch, _ in self._batches:
                    self._backward(self._losses(batch))
                return
            self.total.zero_()
            self.slopes.zero_()
            if has_batchnorm(self.model):
                self._backward_by_class()
            else:
                self._backward_in_order_of_class()

    def _backward_in_order_of_class(self) -> None:
        before = 0
        for batch, (c,) in self._batches:
            if c != before:
                self._book(before)
            self._backward(self._losses(batch))
            before = c
        self._book(before)

    def _backward_by_class(self) -> None:
        """One forward pass a batch, and on it a backward pass for each class in it."""
        groups = torch.split(cast(Tensor, self.groups), self.batch_size)
        for (batch, classes), group in zip(self._batches, groups, strict=True):
            losses = self._losses(batch)
            for c in classes:
                self._backward(torch.where(group == c, losses, 0), retain_graph=c != classes[-1])
                self._book(c)

    def _losses(self, batch: Batch) -> Tensor:
        losses = per_example(self.losses, self._called, self.scaled(batch))
        self.loss += losses.detach().sum(dtype=torch.float64)
        return losses

    def _backward(self, losses: Tensor, **options: Any) -> None:
        (losses.sum() / self.n_examples).backward(**options)  # type: ignore[no-untyped-call]

    def _book(self, c: int) -> None:
        """Move the gradient, which is that of class c alone, to the total, and its slopes to those of the class."""
        self.total += self.gradient
        for direction, slopes in zip(self.directions, self.slopes, strict=True):
            slopes[c] += sum_by_tensor(direction * self.gradient, self.lengths)
        self.gradient.zero_()


def has_batchnorm(model: nn.Module) -> bool:
    """Whether a loss of this model depends on which examples share a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def is_out_of_memory(error: RuntimeError) -> bool:
    """torch.OutOfMemoryError, and what the CPU's allocator raises."""
    return isinstance(error, torch.OutOfMemoryError) or "memory" in str(error)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode but two kinds, which are in training mode.

    Those with running statistics use those of the batch and keep none. Recurrent ones, of which cuDNN has no backward
    pass in eval mode, have their dropout off, so that it makes no difference.
    """
    modes = [(module, module.training) for module in model.modules()]
    recurrent = [(module, module.dropout) for module in model.modules() if isinstance(module, nn.RNNBase)]
    tracking: list[Any] = [module for module, _ in modes if getattr(module, "track_running_stats", False)]
    model.eval()
    for module in tracking:
        module.training, module.track_running_stats = True, False
    for module, _ in recurrent:
        module.training, module.dropout = True, 0.0
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module in tracking:
            module.track_running_stats = True
        for module, dropout in recurrent:
            module.dropout = dropout


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
