"""The loss over a whole split and its gradient, as a function of the flat parameter vector θ (K,)."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from lca.allocation.class_slopes import ClassSlopes
from lca.allocation.iteration import Evaluation
from lca.allocation.pieces import Piece, Pieces
from lca.allocation.tangents import use_differentiable_attention
from lca.errors import UsageError
from lca.model.evaluation_mode import bind_parameters, evaluation_mode, keep_buffers, widen_tensors
from lca.model.parameters import build_table, flatten, get_device, get_trainable
from lca.model.vectors import choose_dtype, make_views
from lca.problem.batches import Batch, map_tensors, scale_batch
from lca.problem.losses import Losses, compute_losses, compute_weights, explain_casts, sum_parts
from lca.problem.objective import Objective
from lca.problem.streaming import take_first
from lca.runtime.cuda_graph import Pass, capture
from lca.runtime.device import find_float64_device
from lca.runtime.precision import require_precision, use_precision

SAMPLE = 16  # examples in the passes that only inspect the model


class FullGradient:
    """Computes L(θ) = Σ w ℓ(θ) / Σ w and ∇L(θ) over all examples of an objective.

    Use it as a context manager. Inside the context, the model's parameters and their gradients are views of two flat
    vectors (K,), so that setting θ and zeroing or reading the gradient are single operations. If parameters or buffers
    are narrower than θ, which is at least float32, they and the data are converted to the dtype of θ. On exit, the
    model is restored. On CUDA, a pass over data in device memory is captured as one graph. If that fails, passes run
    eagerly and `notes` states the reason. On a device without float64, losses are summed in float64 on the host at the
    end of a pass, and the results are on the host too (see `float64_device`).

    The examples are divided into batches of `batch_size` in order. Some batches may be smaller, which does not change
    the weight of their examples. Data in host memory are copied ahead of use if the device copies asynchronously.
    Dropout is off. BatchNorm uses the statistics of each batch and neither uses nor changes its running statistics, so
    L depends on the batches.

    If the objective has groups, every evaluation includes slopes by class. If no example's loss depends on the others
    in its batch and each example has one group, the classes go through the model separately, which takes little longer
    than a pass without classes. Otherwise, each batch takes one backward pass for each of its classes, or, if there are
    many more classes than tensors, one for each tensor and direction.

    `precision` is explained in lca.runtime.precision. With `compiled`, the model runs through torch.compile.
    """

    def __init__(
        self, objective: Objective, batch_size: int, *, precision: str = "fp32", compiled: bool = False
    ) -> None:
        self.objective, self.batch_size, self.precision, self.compiled = objective, batch_size, precision, compiled
        self.model = objective.model
        self.table = build_table(self.model)
        self.device = get_device(self.model)
        self.float64_device = find_float64_device(self.device)
        require_precision(precision, self.device)
        if precision != "fp32" and choose_dtype(get_trainable(self.model).values()) == torch.float64:
            raise UsageError("precision", expected="fp32, because the model is in float64", found=precision)
        self.n_passes = 0
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.theta = flatten(self.model)
            self.gradient = torch.zeros_like(self.theta)
            self.loss = torch.zeros((), dtype=torch.float64, device=self.float64_device)
            self._losses: list[Tensor] = []
            self.pieces = Pieces(self.objective, self.batch_size, self.device)
            self.total_weight = self.pieces.sum_weights()
            self.by_class = None
            if self.objective.groups is not None:
                self.by_class = ClassSlopes(self.model, self.pieces.n_classes, self.theta)
            self._passes: dict[tuple[str, bool], Pass] = {}
            stack.enter_context(evaluation_mode(self.model))
            stack.enter_context(keep_buffers(self.model))
            self._wide = stack.enter_context(widen_tensors(self.model))
            parameters, gradients = make_views(self.theta, self.table), make_views(self.gradient, self.table)
            stack.enter_context(bind_parameters(self.model, parameters, gradients))
            if self.by_class and not self.compiled and self.precision != "bf16":
                n = min(self.batch_size, self.objective.n_examples)
                self.by_class.try_by_tensor(self.compute_sample, n / SAMPLE)
            self._called = cast(nn.Module, torch.compile(self.model)) if self.compiled else self.model
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._passes.clear()  # releases the memory of the CUDA graphs
        self.pieces.close()
        self._leave.close()

    def __call__(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """Compute the loss and the gradient (K,) at theta (K,) in one pass over the split.

        `directions` are up to two float64 vectors (K,), used only if the objective has groups. The slopes along them
        have shape (direction, class, tensor), or (class, tensor) for a single direction. The result shares no memory
        with this object, and the host waits only for a device without float64.
        """
        return self._evaluate(self.precision, theta, directions)

    def evaluate_full_precision(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """Evaluate as `__call__` does, but in float32 (float64 for a float64 model), regardless of `precision`."""
        return self._evaluate("fp32", theta, directions)

    def evaluate_iterate(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """Evaluate as `__call__` does, but compute the loss in float32 if the precision is bf16.

        The error of a bfloat16 loss, 6e-4, would show in the residual.
        """
        evaluation = self(theta, *directions)
        if self.precision != "bf16":
            return evaluation
        return replace(evaluation, loss=self.compute_mean(theta))

    def compute_mean(self, theta: Tensor, figure: Losses | None = None) -> Tensor:
        """Return the weighted mean of the loss, or of figure(model, batch), over all examples, in float64."""
        values = self.compute_by_example(theta, figure).to(self.float64_device)
        return values.sum(dtype=torch.float64) / self.total_weight

    @torch.no_grad()
    def compute_by_example(self, theta: Tensor, figure: Losses | None = None) -> Tensor:
        """Return the weighted loss, or figure(model, batch), of each example (N,), in the order of the data.

        If an example has several parts, such as tokens, their weighted values are summed. The model runs in full
        precision.
        """
        self.theta.copy_(theta)
        figure = figure or self.objective.losses
        with use_precision("fp32", self.device):
            return torch.cat(
                [
                    sum_parts(compute_losses(figure, self.model, self._scale(piece.batch), piece.weights))
                    for piece in self.pieces
                ]
            )

    def compute_weights(self) -> Tensor:
        """Return the weight of each example (N,), summed over its parts."""
        if self.objective.weigh is None:
            return torch.ones(self.objective.n_examples, device=self.device)
        return torch.cat([sum_parts(cast(Tensor, piece.weights)) for piece in self.pieces])

    def compute_sample(self, n: int = SAMPLE) -> Tensor:
        """Return the losses of the first n examples at the current θ. Used to inspect the model."""
        objective = self.objective
        batch = self._scale(map_tensors(take_first(objective.data, n), lambda x: x.to(self.device)))
        return compute_losses(objective.losses, self.model, batch, compute_weights(objective.weigh, batch))

    def _scale(self, batch: Batch) -> Batch:
        return scale_batch(self.objective.scale, batch, self._wide)

    def _evaluate(self, precision: str, theta: Tensor, directions: tuple[Tensor, ...]) -> Evaluation:
        self.theta.copy_(theta)
        if self.by_class:
            self.by_class.set_directions(directions)
        key = precision, self.by_class is not None
        if key not in self._passes:
            function, on_device = partial(self._pass, precision), self.pieces.are_on_device
            self._passes[key], note = capture(function, self.device) if on_device else (function, None)
            self.notes += [note] if note else []
        self._passes[key]()
        self.n_passes += 1
        if self._losses:
            self.loss = torch.cat(self._losses).to(self.float64_device).sum(dtype=torch.float64)
        loss, total = self.loss / self.total_weight, self.by_class.total if self.by_class else self.gradient
        slopes = self.by_class.take(len(directions)) if self.by_class else None
        return Evaluation(loss, total.to(self.float64_device, copy=True), slopes)

    def _pass(self, precision: str) -> None:
        """Compute `loss`, and `gradient` or `by_class`, in place, because a CUDA graph needs constant addresses."""
        self.loss.zero_()
        self._losses = []
        self.gradient.zero_()
        with use_precision(precision, self.device):
            if not self.by_class:
                for piece in self.pieces:
                    self._backward(self._compute_losses(piece))
                return
            self.by_class.begin()
            if self.pieces.in_order_of_class:
                self._backward_in_order_of_class(self.by_class)
            else:
                self._backward_by_class(self.by_class)

    def _backward_in_order_of_class(self, by_class: ClassSlopes) -> None:
        for (c,), pieces in groupby(self.pieces, key=lambda piece: tuple(piece.classes)):
            for piece in pieces:
                self._backward(self._compute_losses(piece))
            by_class.move(self.gradient, c)

    def _backward_by_class(self, by_class: ClassSlopes) -> None:
        separable = not self.objective.mixes_examples
        for piece in self.pieces:
            if separable and piece.has_group_per_example:
                for part in piece.split_by_class():
                    self._backward(self._compute_losses(part))
                    by_class.move(self.gradient, *part.classes)
            elif by_class.differentiates_by_tensor(len(piece.classes)):
                self._differentiate_by_tensor(piece, by_class)
            else:
                losses = self._compute_losses(piece)
                groups, (*others, last) = piece.expand_groups(losses), piece.classes
                for c in (*others, last):
                    self._backward(torch.where(groups == c, losses, 0), retain_graph=c != last)
                    by_class.move(self.gradient, c)

    def _differentiate_by_tensor(self, piece: Piece, by_class: ClassSlopes) -> None:
        # The graph is freed when this method returns, before the next batch needs the memory.
        with use_differentiable_attention():
            losses = self._compute_losses(piece)
        by_class.add_by_tensor(losses / self.total_weight, piece.expand_groups(losses))

    def _compute_losses(self, piece: Piece) -> Tensor:
        with explain_casts(self._wide):
            losses = compute_losses(self.objective.losses, self._called, self._scale(piece.batch), piece.weights)
        if self.float64_device == self.device:
            self.loss += losses.detach().sum(dtype=torch.float64)
        else:
            self._losses.append(losses.detach().flatten())
        return losses

    def _backward(self, losses: Tensor, **options: Any) -> None:
        (losses.sum() / self.total_weight).backward(**options)  # type: ignore[no-untyped-call]


@contextmanager
def without_classes(gradient: FullGradient) -> Iterator[None]:
    """Compute no slopes by class in this context, which saves their backward passes."""
    by_class, gradient.by_class = gradient.by_class, None
    try:
        yield
    finally:
        gradient.by_class = by_class


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether this is torch.OutOfMemoryError or mentions memory, like the error of the CPU allocator."""
    return isinstance(error, torch.OutOfMemoryError) or "memory" in str(error)
