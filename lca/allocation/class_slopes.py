"""The directional derivatives of each class's share of the loss, accumulated during a pass over the split."""

import torch
from torch import Tensor

from lca.model.vectors import sum_by_tensor
from lca.runtime.device import find_float64_device, has_float64
from lca.store.parameters import ParameterTable

DIRECTIONS = 2  # an iterate lies between two steps and needs the slopes along both


class ClassSlopes:
    """Accumulates class gradients into their sum and into slopes, in tensors that are never reallocated.

    `total` (K,) is the gradient summed over the classes. `slopes`, of shape (direction, class, tensor), holds
    Σ_i d_i ∂_i L_c for direction d, where i runs over the parameters of a tensor and L_c is the share of class c in
    L = Σ_c L_c. It is in float64 if the device supports it.
    """

    def __init__(self, table: ParameterTable, n_classes: int, like: Tensor) -> None:
        device, K = like.device, len(like)
        self.total = torch.zeros_like(like)
        self.lengths = torch.tensor(table.sizes, device=device)
        dtype = torch.float64 if has_float64(device) else torch.float32
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

    def take(self, n_directions: int) -> Tensor:
        """Return a copy of the slopes in float64: (direction, class, tensor), or (class, tensor) for one direction."""
        slopes = self.slopes[0] if n_directions == 1 else self.slopes[:n_directions]
        return slopes.to(find_float64_device(slopes.device), copy=True).double()
