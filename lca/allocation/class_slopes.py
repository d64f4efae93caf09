"""The slopes of each class's part of the loss along given directions, gathered during a pass."""

import torch
from torch import Tensor

from lca.model.vectors import sum_by_tensor
from lca.store.parameters import ParameterTable

DIRECTIONS = 2  # an iterate lies between two steps, and the slopes along both are needed there


class ClassSlopes:
    """Sums gradients over classes; all tensors stay at the same place in memory.

    total: (K,), the gradient of all classes together. slopes: (direction, class, tensor) in float64,
    Σ_i d_i ∂_i L_c over each tensor, where L_c is the part of L that the examples of class c make up.
    """

    def __init__(self, table: ParameterTable, n_classes: int, like: Tensor) -> None:
        device, K = like.device, len(like)
        self.total = torch.zeros_like(like)
        self.lengths = torch.tensor(table.sizes, device=device)
        self.directions = torch.zeros(DIRECTIONS, K, dtype=torch.float64, device=device)
        self.slopes = torch.zeros(DIRECTIONS, n_classes, len(table), dtype=torch.float64, device=device)

    def begin(self) -> None:
        """Empty all sums."""
        self.total.zero_()
        self.slopes.zero_()

    def set_directions(self, directions: tuple[Tensor, ...]) -> None:
        for i, direction in enumerate(directions):
            self.directions[i].copy_(direction)

    def move(self, gradient: Tensor, c: int) -> None:
        """Move a gradient (K,) of class c alone to the total, and its slopes to those of the class."""
        self.total += gradient
        for direction, slopes in zip(self.directions, self.slopes, strict=True):
            slopes[c] += sum_by_tensor(direction * gradient, self.lengths)
        gradient.zero_()

    def take(self, n_directions: int) -> Tensor:
        """A copy of the slopes, (direction, class, tensor), or (class, tensor) for a single direction."""
        slopes = self.slopes[0] if n_directions == 1 else self.slopes[:n_directions]
        return slopes.clone()
