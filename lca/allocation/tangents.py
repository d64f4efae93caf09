"""The derivatives of all losses of a batch along a direction, for the parameters of one tensor at a time.

The gradient g(w) = Σ_n w_n ∂ℓ_n/∂θ is linear in the weights w, so ∂(d · g)/∂w_n is the derivative of ℓ_n along d. One
backward pass through the gradient of a tensor therefore yields the derivatives of all losses [Townsend 2017, "A new
trick for calculating Jacobian vector products"]. It involves only the layers from the tensor to the loss. Forward-mode
differentiation would repeat the forward pass for every tensor, and took 1.2 to 4.5 times as long.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lca.allocation.activations import measure_saved_bytes

SAME_TANGENTS = 1e-3  # relative difference allowed between the derivatives from this method and from the gradient


class Tangents:
    """Differentiates losses of any shape with respect to `parameters`, the tensors of a model.

    `gradients` holds the gradient of the sum of the losses for each tensor, or None if they do not depend on it.
    """

    def __init__(self, losses: Tensor, parameters: Sequence[Tensor]) -> None:
        self._weights = torch.ones_like(losses, requires_grad=True)
        self.gradients: Sequence[Tensor | None] = torch.autograd.grad(
            losses, parameters, self._weights, create_graph=True, allow_unused=True
        )

    def along(self, i: int, direction: Tensor) -> Tensor:
        """Return the derivative of each loss along a direction in the parameters of tensor i, in the losses' shape."""
        gradient = self.gradients[i]
        if gradient is None:
            return torch.zeros_like(self._weights)
        (tangent,) = torch.autograd.grad(gradient, self._weights, direction, retain_graph=True, materialize_grads=True)
        return tangent


def use_differentiable_attention() -> AbstractContextManager[None]:
    """Return a context in which attention has second derivatives. Those of its fused kernels are not implemented."""
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context


def are_supported(compute_losses: Callable[[], Tensor], parameters: Sequence[Tensor], max_bytes: float) -> bool:
    """Return whether `Tangents` differentiates these losses correctly and keeps at most `max_bytes` for it.

    Some operations have no second derivative. An operation whose backward pass is user code may also have a wrong one.
    """
    agree = False

    def compare() -> None:
        nonlocal agree
        with use_differentiable_attention():
            agree = _agrees_with_gradient(compute_losses(), parameters)

    try:
        return measure_saved_bytes(compare, parameters) <= max_bytes and agree
    except Exception:  # user code may raise anything. If the losses themselves are invalid, the pass reports it.
        return False


def _agrees_with_gradient(losses: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Compare the derivatives along a random direction of a random combination of the losses."""
    generator = torch.Generator().manual_seed(0)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    weights, directions = draw(losses), [draw(p) for p in parameters]
    gradients = torch.autograd.grad(losses, parameters, weights, retain_graph=True, materialize_grads=True)
    tangents = Tangents(losses, parameters)
    expected = torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)])
    found = torch.stack([(tangents.along(i, d) * weights).sum() for i, d in enumerate(directions)])
    return bool((found - expected).norm() <= SAME_TANGENTS * expected.norm())
