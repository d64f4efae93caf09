"""theta (K,) -> the loss over a whole split and its gradient (K,)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from lca.batch import Batch, cut, length, mapped, tensors
from lca.errors import LCAError, UsageError
from lca.graph import Pass, capture
from lca.integrate import Evaluation
from lca.modes import bound, buffers_kept, evaluation_mode, in_one_width, is_narrower
from lca.parameters import ParameterTable, common_dtype, device_of, flatten, sum_by_tensor, trainable, views
from lca.precision import in_precision, require_precision
from lca.problem import Losses, per_example, weights_of
from lca.stream import Stream, ahead, count, head, pieces

SAMPLE = 16  # examples, where a few tell enough
DIRECTIONS = 2  # an iterate lies between two steps, so slopes along both are wanted there


@dataclass(frozen=True)
class Piece:
    """A batch of a pass, as the data have it.

    weights: of its losses, None where each weighs 1. groups: the class of each loss, None where these are not told
    apart. classes: those in it.
    """

    batch: Batch
    weights: Tensor | None
    groups: Tensor | None
    classes: list[int]


class FullGradient:
    """L(θ) = Σ wℓ(θ) / Σ w and ∇L(θ), over every example of a split; a context manager.

    Inside the context the model's parameters and their gradients are views of two flat vectors (K,), so setting θ,
    zeroing and reading a gradient are each one call. Parameters and buffers of 16 bits are float32 there, and data too
    where there are such. On leaving it the model is as it was before. On CUDA a pass is one graph, or eager where that
    cannot be, with a note.

    data: the split, on the model's device, or elsewhere, from where it is copied ahead of its use. It is cut into
    batches of batch_size in order; the last one may be smaller and weighs what it should. Dropout is off. BatchNorm
    runs on the statistics of each batch, and its running buffers are neither used nor changed; for such a model the
    batches are a part of what L means.
    scale: what is done to a batch before the losses are computed, such as bytes to floats.
    weigh: weigh(batch), what each loss weighs, of its shape: (B,) or (B, S); all 1 by default.
    groups: groups(batch), the class of each example (B,) or loss (B, S), 0 … n_classes − 1; then evaluations have
    slopes. Where the data are in memory n_classes need not be told. Where they are in the order of their classes, and
    no BatchNorm asks for other batches, a batch holds those of one class; else there is a backward pass for each class
    in a batch.
    precision: of the passes, see PRECISIONS. compiled: run the model through torch.compile.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Losses,
        data: "Batch | Stream",
        batch_size: int,
        *,
        scale: Callable[[Batch], Batch] | None = None,
        weigh: Callable[[Batch], Tensor] | None = None,
        groups: Callable[[Batch], Tensor] | None = None,
        n_classes: int = 0,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.model, self.losses, self.data, self.batch_size = model, losses, data, batch_size
        self.scale, self.weigh, self.groups, self.n_classes = scale, weigh, groups, n_classes
        self.precision, self.compiled = precision, compiled
        self.table = ParameterTable.of(model)
        self.device = device_of(model)
        require_precision(precision, self.device)
        if precision != "fp32" and common_dtype(trainable(model).values()) == torch.float64:
            raise UsageError(f"precision {precision} is for models in float32; this one is in float64. Leave it out.")
        self.is_there = not isinstance(data, Stream) and all(x.device == self.device for x in tensors(data))
        self.n_examples = count(data)
        self.total_weight = float(self.n_examples) if weigh is None else _total(weigh, pieces(data, scale))
        self.n_passes = 0
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.theta = flatten(self.model)
            self.gradient = torch.zeros_like(self.theta)
            self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
            self._in_order_of_class, self._pieces = self._cut()
            if self.groups is not None:
                n_classes = self.n_classes or 1 + max(c for _, classes in self._pieces for c in classes)
                self.total = torch.zeros_like(self.theta)
                self.lengths = torch.tensor(self.table.sizes, device=self.device)
                self.directions = torch.zeros(DIRECTIONS, self.table.size, dtype=torch.float64, device=self.device)
                shape = (DIRECTIONS, n_classes, len(self.table))
                self.slopes = torch.zeros(shape, dtype=torch.float64, device=self.device)
            self._passes: dict[str, Pass] = {}
            stack.enter_context(evaluation_mode(self.model))
            stack.enter_context(buffers_kept(self.model))
            self._wide = stack.enter_context(in_one_width(self.model))
            stack.enter_context(bound(self.model, views(self.theta, self.table), views(self.gradient, self.table)))
            self._called = cast(nn.Module, torch.compile(self.model)) if self.compiled else self.model
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._passes.clear()  # and with them the memory of their graphs
        self._pieces = []  # and the workers that read them
        self._leave.close()

    def __call__(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """One pass over the split. No host synchronisation. The result shares no memory with this object.

        directions: at most two of (K,) in float64; with classes, the slopes along each are (direction, class, tensor),
        or (class, tensor) for a single one.
        """
        return self._evaluate(self.precision, theta, directions)

    def in_full(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """The same in float32, or the float64 of the model, whatever the precision."""
        return self._evaluate("fp32", theta, directions)

    def at_iterate(self, theta: Tensor, *directions: Tensor) -> Evaluation:
        """The same with the loss in float32: in bfloat16 it is off by up to 6e-4, which the residual would feel."""
        evaluation = self(theta, *directions)
        if self.precision != "bf16":
            return evaluation
        return replace(evaluation, loss=self.mean(theta))

    def mean(self, theta: Tensor, figure: Losses | None = None) -> Tensor:
        """Over all that L is the mean of, in float64: of the loss itself, or of figure(model, batch), of its shape."""
        return self.of_examples(theta, figure).sum(dtype=torch.float64) / self.total_weight

    @torch.no_grad()
    def of_examples(self, theta: Tensor, figure: Losses | None = None) -> Tensor:
        """(N,): the loss, or figure(model, batch), of each example times its weight, or the sum of this over its parts.

        In the order of the data, in full precision.
        """
        self.theta.copy_(theta)
        figure = figure or self.losses
        with in_precision("fp32", self.device):
            return torch.cat(
                [
                    _by_example(per_example(figure, self.model, self.scaled(piece.batch), piece.weights))
                    for piece in self.pieces()
                ]
            )

    def example_weights(self) -> Tensor:
        """(N,): what each example weighs, with all its parts."""
        if self.weigh is None:
            return torch.ones(self.n_examples, device=self.device)
        return torch.cat([_by_example(cast(Tensor, piece.weights)) for piece in self.pieces()])

    def sample_losses(self, n: int = SAMPLE) -> Tensor:
        """The losses of the first n examples, to look what the model does with them."""
        batch = self.scaled(mapped(head(self.data, n), lambda x: x.to(self.device)))
        return per_example(self.losses, self.model, batch, weights_of(self.weigh, batch))

    @torch.no_grad()
    def by_companions(self) -> float:
        """How far the losses of a few examples are off, as a part of them, where half as many share their batch."""
        if self.n_examples < 2:
            return 0.0
        half = min(SAMPLE, self.n_examples) // 2
        with in_precision("fp32", self.device):
            alone, together = (_by_example(self.sample_losses(n))[:half].double() for n in (half, 2 * half))
        return float((alone - together).abs().sum() / together.abs().sum().clamp_min(torch.finfo(torch.float32).tiny))

    def scaled(self, batch: Batch) -> Batch:
        """What the losses are computed of."""
        batch = self.scale(batch) if self.scale else batch
        wide = self._wide
        return mapped(batch, lambda x: x.to(wide) if is_narrower(x, wide) else x) if wide else batch

    def pieces(self) -> Iterator[Piece]:
        """The batches of a pass, on the device."""
        n = 0
        for parts, classes in self._pieces if self.is_there else ahead(self._pieces, self.device):
            n += length(parts)
            yield Piece(parts["batch"], parts.get("weights"), parts.get("groups"), classes)
        if n != self.n_examples:
            raise LCAError(
                f"a pass gave {n:,} of {self.n_examples:,} examples: a data set has to give the same ones each time, "
                "and its collate_fn all that it is given."
            )

    def _cut(self) -> tuple[bool, Iterable[tuple[Batch, list[int]]]]:
        """Whether a batch holds one class only, and the batches with their weights, groups and classes."""
        if isinstance(self.data, Stream):
            return False, self.data.map(self._described).batches(self.batch_size, often=True)
        parts, _ = self._described(self.data)
        groups = parts.get("groups")
        if groups is None:
            return False, [(part, []) for part in cut(parts, self.batch_size)]
        if has_batchnorm(self.model) or groups.ndim > 1 or bool((groups.diff() < 0).any()):
            return False, [(part, torch.unique(part["groups"]).tolist()) for part in cut(parts, self.batch_size)]
        ends = [0, *torch.bincount(groups).cumsum(0).tolist()]
        by_class = [mapped(parts, lambda x, a=a, b=b: x[a:b]) for a, b in pairwise(ends)]  # type: ignore[misc]
        return True, [
            (part, [c]) for c, part in enumerate(by_class) if length(part) for part in cut(part, self.batch_size)
        ]

    def _described(self, batch: Batch) -> tuple[Batch, list[int]]:
        """The batch, the weights and the groups of its losses, as far as there are any; and its classes."""
        parts = {"batch": batch}
        if self.weigh:
            parts["weights"] = torch.cat([cast(Tensor, weights_of(self.weigh, x)) for x in pieces(batch, self.scale)])
        if self.groups:
            parts["groups"] = torch.cat([self.groups(x) for x in pieces(batch, self.scale)])
        return parts, torch.unique(parts["groups"]).tolist() if self.groups else []

    def _evaluate(self, precision: str, theta: Tensor, directions: tuple[Tensor, ...]) -> Evaluation:
        self.theta.copy_(theta)
        for i, direction in enumerate(directions):
            self.directions[i].copy_(direction)
        if precision not in self._passes:
            function = partial(self._pass, precision)
            self._passes[precision], note = capture(function, self.device) if self.is_there else (function, None)
            self.notes += [note] if note else []
        self._passes[precision]()
        self.n_passes += 1
        loss = self.loss / self.total_weight
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
                for piece in self.pieces():
                    self._backward(self._losses(piece))
                return
            self.total.zero_()
            self.slopes.zero_()
            if self._in_order_of_class:
                self._backward_in_order_of_class()
            else:
                self._backward_by_class()

    def _backward_in_order_of_class(self) -> None:
        before = 0
        for piece in self.pieces():
            (c,) = piece.classes
            if c != before:
                self._book(before)
            self._backward(self._losses(piece))
            before = c
        self._book(before)

    def _backward_by_class(self) -> None:
        """One forward pass a batch, and on it a backward pass for each class in it."""
        for piece in self.pieces():
            losses, groups = self._losses(piece), cast(Tensor, piece.groups)
            if groups.ndim > losses.ndim:
                raise LCAError(
                    f"groups(batch) gave labels of shape {tuple(groups.shape)}, and there are losses of shape "
                    f"{tuple(losses.shape)}: a label for each loss, or for each example, was wanted."
                )
            groups = groups.reshape(*groups.shape, *[1] * (losses.ndim - groups.ndim))
            for c in piece.classes:
                self._backward(torch.where(groups == c, losses, 0), retain_graph=c != piece.classes[-1])
                self._book(c)

    def _losses(self, piece: Piece) -> Tensor:
        try:
            losses = per_example(self.losses, self._called, self.scaled(piece.batch), piece.weights)
        except RuntimeError as error:
            if self._wide is None or "dtype" not in str(error):
                raise
            raise LCAError(
                f"the model has parameters of 16 bits, which are {self._wide} here, and its code casts to 16 bits by "
                f"itself ({str(error).splitlines()[0]}). Cast to the kind of a parameter instead, such as "
                "x.to(next(model.parameters()).dtype)."
            ) from error
        self.loss += losses.detach().sum(dtype=torch.float64)
        return losses

    def _backward(self, losses: Tensor, **options: Any) -> None:
        (losses.sum() / self.total_weight).backward(**options)  # type: ignore[no-untyped-call]

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


def _by_example(values: Tensor) -> Tensor:
    """(B,) or (B, S) -> the sum over the parts of each example, (B,)."""
    return values.reshape(len(values), -1).sum(1)


def _total(weigh: Callable[[Batch], Tensor], batches: Iterable[Batch]) -> float:
    """Σ w over a split."""
    total, smallest = 0.0, 0.0
    for batch in batches:
        weights = cast(Tensor, weights_of(weigh, batch))
        total += float(weights.sum(dtype=torch.float64))
        smallest = min(smallest, float(weights.min()))
    if not 0 < total < float("inf") or smallest < 0:
        raise LCAError(
            f"the weights of weigh(batch) sum to {total:g}, or some are below 0; they have to be ≥ 0, not all 0."
        )
    return total
