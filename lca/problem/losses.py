"""The losses, weights and labels of a batch, as a problem's functions give them, checked."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lca.errors import LCAError
from lca.problem.batches import Batch, length

Losses = Callable[[nn.Module, Batch], Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """(images, labels) -> (B,) the cross-entropy of each example, in nats."""
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels, reduction="none")


def top_1(model: nn.Module, batch: Batch) -> Tensor:
    """(images, labels) -> (B,) whether the largest output is that of the label."""
    images, labels = batch
    outputs: Tensor = model(images)
    return torch.eq(outputs.argmax(dim=1), labels)


def compute_losses(problem_losses: Losses, model: nn.Module, batch: Batch, weights: Tensor | None = None) -> Tensor:
    """The losses (B,) of a batch; LCAError if the problem's function returns anything else.

    weights: (B,) or (B, S), by which the losses are multiplied; of their shape.
    """
    losses = problem_losses(model, batch)
    n = length(batch)
    shape = (n,) if weights is None else tuple(weights.shape)
    if not isinstance(losses, Tensor) or losses.shape != shape:
        each = "one loss per example" if weights is None else "one loss for each weight that weigh(batch) returned"
        raise LCAError(
            f"losses(model, batch) for a batch of {n} examples",
            expected=f"{each}, shape {shape}",
            found=describe_value(losses),
            remedy=_suggest(losses, n, weights is not None),
        )
    if torch.is_grad_enabled() and not losses.requires_grad:
        raise LCAError(
            "losses(model, batch) returned losses without a gradient: they were detached, computed under no_grad, or "
            "do not use the model that they were given."
        )
    # What weighs nothing may be anything, also not finite.
    return losses if weights is None else torch.where(weights > 0, losses, 0) * weights


def _suggest(losses: object, n: int, weighed: bool) -> str:
    """What to do about losses of the wrong shape."""
    shape = tuple(losses.shape) if isinstance(losses, Tensor) else None
    if shape == (n, 1):
        return "Take losses.squeeze(-1)."
    if shape == (n, n) and n > 1:
        return "Does a prediction of shape (B, 1) meet a target of shape (B,)? Take prediction.squeeze(-1)."
    if weighed:
        return "Give weights of the shape of the losses."
    if shape and len(shape) > 1 and shape[0] == n:
        return "For a loss per token give Problem(…, weigh=…) too; else take their mean over each example."
    return 'With torch\'s loss functions use reduction="none".'


def compute_weights(weigh: Callable[[Batch], Tensor] | None, batch: Batch) -> Tensor | None:
    """The weights of a batch as weigh gives them, a mask as ones and zeros; LCAError if they are invalid."""
    if weigh is None:
        return None
    weights, n = weigh(batch), length(batch)
    if not isinstance(weights, Tensor) or weights.ndim == 0 or len(weights) != n:
        raise LCAError(
            f"weigh(batch) for a batch of {n} examples",
            expected=f"a weight for each of them, shape ({n},), or for each of their parts, shape ({n}, …)",
            found=describe_value(weights),
        )
    return weights if weights.is_floating_point() else weights.float()


def compute_labels(groups: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """The labels of a batch as groups gives them; LCAError if they are invalid."""
    labels, n = groups(batch), length(batch)
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
    if not whole or labels.ndim == 0 or len(labels) != n:
        found = f"{describe_value(labels)} of {labels.dtype}" if isinstance(labels, Tensor) else describe_value(labels)
        raise LCAError(
            f"groups(batch) for a batch of {n} examples",
            expected=f"integer labels, one for each example, shape ({n},), or for each of its parts, shape ({n}, …)",
            found=found,
        )
    return labels


def describe_value(value: object) -> str:
    """A value in words, for an error."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "nothing" if value is None or (isinstance(value, tuple) and not value) else f"a {type(value).__name__}"
