"""The directional derivatives of each class's share of the loss, accumulated during a pass over the split."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lca.allocation.tangents import Tangents, are_supported
from lca.model.parameters import build_table, get_trainable
from lca.model.vectors import make_views, sum_by_tensor
from lca.runtime.device import find_float64_device, get_memory_bytes
from lca.runtime.workers import count_sharing

DIRECTIONS = 2  # an iterate lies between two steps and needs the slopes along both
CLASSES_PER_TENSOR = 1.5  # number of classes per tensor above which differentiating tensor by tensor is faster


class ClassSlopes:
    """Accumulates class gradients into their sum and into slopes, in tensors that are never reallocated.

    `total` (K,) is the gradient summed over the classes. `slopes`, of shape (direction, class, tensor), holds
    Σ_i d_i ∂_i L_c for direction d, where i runs over the parameters of a tensor and L_c is the share of class c in
    L = Σ_c L_c. It is in float64 if the device supports it.
    """

    def __init__(self, model: nn.Module, n_classes: int, like: Tensor) -> None:
        device, K = like.device, len(like)
        self.parameters = list(get_trainable(model).values())
        self.table = table = build_table(model)
        self._may_use_tensors = False
        self.total = torch.zeros_like(like)
        self.lengths = torch.tensor(table.sizes, device=device)
        self.float64_device = find_float64_device(device)
        dtype = torch.float64 if self.float64_device == device else torch.float32
        self.directions = torch.zeros(DIRECTIONS, K, dtype=dtype, device=device)
        self.slopes = torch.zeros(DIRECTIONS, n_classes, len(table), dtype=dtype, device=device)

    def begin(self) -> None:
        """Set all sums to zero."""
        self.total.zero_()
        self.slopes.zero_()

    def set_directions(self, directions: tuple[Tensor, ...]) -> None:
        for i, direction in enumerate(directions):
            self.directions[i].copy_(direction)

    def move(self, gradient: Tensor, c: int) -> None:
        """Add the gradient (K,) of class c to `total` and its slopes to those of the class, then zero the gradient."""
        self.total += gradient
        for direction, slopes in zip(self.directions, self.slopes, strict=True):
            slopes[c] += sum_by_tensor(direction * gradient, self.lengths)
        gradient.zero_()

    def try_by_tensor(self, compute_losses: Callable[[], Tensor], batch_factor: float) -> None:
        """Let `add_by_tensor` be used for batches of many classes if it is correct and fits in memory.

        `compute_losses` computes the losses of a small sample, and a batch is `batch_factor` times as large.
        """
        if self._are_many(self.slopes.shape[1]):
            available = get_memory_bytes(self.total.device) // count_sharing(self.total.device)
            self._may_use_tensors = are_supported(compute_losses, self.parameters, available / max(1, batch_factor))

    def differentiates_by_tensor(self, n_classes: int) -> bool:
        """Return whether `add_by_tensor` is faster for a batch with this number of classes, and may be used."""
        return self._may_use_tensors and self._are_many(n_classes)

    def add_by_tensor(self, losses: Tensor, groups: Tensor) -> None:
        """Add the gradient of the sum of the losses to `total`, and their slopes to those of their classes.

        Runs one second-order backward pass for each tensor and direction, whatever the number of classes. `groups`
        holds the class of each loss, in the shape of the losses.
        """
        tangents, groups = Tangents(losses, self.parameters), groups.flatten()
        for total, gradient in zip(make_views(self.total, self.table), tangents.gradients, strict=True):
            if gradient is not None:
                total += gradient.detach()
        for vector, slopes in zip(self.directions.to(self.total.dtype), self.slopes, strict=True):
            for i, direction in enumerate(make_views(vector, self.table)):
                slopes[:, i].index_add_(0, groups, tangents.along(i, direction).flatten().to(slopes.dtype))

    def _are_many(self, n_classes: int) -> bool:
        return n_classes > CLASSES_PER_TENSOR * len(self.table)

    def take(self, n_directions: int) -> Tensor:
        """Return a copy of the slopes in float64: (direction, class, tensor), or (class, tensor) for one direction."""
        slopes = self.slopes[0] if n_directions == 1 else self.slopes[:n_directions]
        return slopes.to(self.float64_device, copy=True).double()
