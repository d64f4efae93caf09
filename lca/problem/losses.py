"""Evaluation of a problem's functions on a batch, with checks of the losses, weights and labels that they return."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lca.errors import LCAError
from lca.problem.batches import Batch, length

Losses = Callable[[nn.Module, Batch], Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of each example of a batch (inputs, labels) in nats, with shape (B,)."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels, reduction="none")


def top_1(model: nn.Module, batch: Batch) -> Tensor:
    """Return whether the model classifies each example of a batch (inputs, labels) correctly, with shape (B,)."""
    images, labels = batch
    outputs: Tensor = model(images)
    return torch.eq(outputs.argmax(dim=1), labels)


def compute_losses(problem_losses: Losses, model: nn.Module, batch: Batch, weights: Tensor | None = None) -> Tensor:
    """Compute the losses of a batch, multiplied by their weights. Raise LCAError if the losses are invalid.

    Without `weights`, the losses have shape (B,). Otherwise they have the shape of the weights, (B,) or (B, S).
    """
    losses = problem_losses(model, batch)
    n = length(batch)
    shape = (n,) if weights is None else tuple(weights.shape)
    if not isinstance(losses, Tensor) or losses.shape != shape:
        each = "one loss per example" if weights is None else "one loss per weight returned by weigh(batch)"
        raise LCAError(
            f"losses(model, batch) for a batch of {n} examples",
            expected=f"{each}, shape {shape}",
            found=describe_value(losses),
            remedy=_suggest(losses, n, weights is not None),
        )
    if torch.is_grad_enabled() and not losses.requires_grad:
        raise LCAError(
            "the losses returned by losses(model, batch) have no gradient",
            remedy="Compute them with the model that is passed in, without detach() and torch.no_grad().",
        )
    # A loss with weight 0 may be infinite or NaN. Multiplying it by 0 would give NaN.
    return losses if weights is None else torch.where(weights > 0, losses, 0) * weights


@contextmanager
def explain_casts(wide: torch.dtype | None) -> Iterator[None]:
    """Replace the dtype error of a loss that casts to a 16-bit dtype with an LCAError that explains the cause.

    `wide` is the dtype to which the model was converted. If it is None, no error is replaced.
    """
    try:
        yield
    except RuntimeError as error:
        if wide is None or "dtype" not in str(error):
            raise
        raise LCAError(
            f"the model's 16-bit parameters are converted to {wide} for the allocation, but its code casts to a fixed "
            f"16-bit dtype ({str(error).splitlines()[0]})",
            remedy="Cast to the dtype of a parameter instead, such as x.to(next(model.parameters()).dtype).",
        ) from error


def sum_parts(values: Tensor) -> Tensor:
    """Sum the values (B,) or (B, S) over the parts of each example; returns (B,)."""
    return values.reshape(len(values), -1).sum(1)


def _suggest(losses: object, n: int, weighed: bool) -> str:
    """Return a remedy for losses of the wrong shape."""
    shape = tuple(losses.shape) if isinstance(losses, Tensor) else None
    if shape == (n, 1):
        return "Return losses.squeeze(-1)."
    if shape == (n, n) and n > 1:
        return "If the prediction has shape (B, 1) and the target shape (B,), use prediction.squeeze(-1)."
    if weighed:
        return "Return weights and losses of the same shape."
    if shape and len(shape) > 1 and shape[0] == n:
        return "For one loss per token, also pass Problem(…, weigh=…). Otherwise return the mean over each example."
    return 'Pass reduction="none" to the loss functions of torch.'


def compute_weights(weigh: Callable[[Batch], Tensor] | None, batch: Batch) -> Tensor | None:
    """Return the weights of a batch, with shape (B,) or (B, S), or None if `weigh` is None.

    A boolean mask becomes ones and zeros. Raises LCAError if the weights are invalid.
    """
    if weigh is None:
        return None
    weights, n = weigh(batch), length(batch)
    if not isinstance(weights, Tensor) or weights.ndim == 0 or len(weights) != n:
        raise LCAError(
            f"weigh(batch) for a batch of {n} examples",
            expected=f"one weight per example, shape ({n},), or one per part of an example, shape ({n}, …)",
            found=describe_value(weights),
        )
    return weights if weights.is_floating_point() else weights.float()


def compute_labels(groups: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Return the integer labels of a batch, with shape (B,) or (B, S). Raise LCAError if they are invalid."""
    labels, n = groups(batch), length(batch)
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
    if not whole or labels.ndim == 0 or len(labels) != n:
        found = describe_value(labels) + (f" and dtype {labels.dtype}" if isinstance(labels, Tensor) else "")
        raise LCAError(
            f"groups(batch) for a batch of {n} examples",
            expected=f"one integer label per example, shape ({n},), or one per part of an example, shape ({n}, …)",
            found=found,
        )
    return labels


def describe_value(value: object) -> str:
    """Return a phrase that describes a value in an error message, such as "a tensor of shape (3,)" or "an int"."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if value is None:
        return "None"
    if isinstance(value, tuple) and not value:
        return "nothing"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
