"""A problem to begin with. Change the model, the data and the loss to yours; then

lca train FILE:problem --iterations 200 --out run.zarr
lca allocate run.zarr --problem FILE:problem
lca analyze layers run.zarr
"""

import torch
from torch import nn

import lca


def problem(hidden: int = 32) -> lca.Problem:
    """What is trained; `--set hidden=64` gives another argument."""
    model = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))  # its weights are drawn by --seed
    return lca.Problem(
        model,
        losses,
        train=two_moons(2_000, seed=0),  # a tuple of tensors whose first dimension is the example
        val=two_moons(500, seed=1),
        groups=lambda batch: batch[1],  # a label for each example, for `lca allocate --by-class`
        correct=lambda model, batch: model(batch[0]).argmax(dim=1) == batch[1],  # for accuracies
    )


def losses(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """One loss for each example, not their mean: what is allocated is the mean over a whole split."""
    x, y = batch
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def two_moons(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on two half circles, with noise; data must not depend on --seed, or runs could not be compared."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    angle = torch.pi * torch.rand(n, generator=generator)
    x = torch.stack([torch.cos(angle) * (1 - 2 * y) + y, torch.sin(angle) * (1 - 2 * y) + y / 2], dim=1)
    return x + 0.15 * torch.randn(n, 2, generator=generator), y
