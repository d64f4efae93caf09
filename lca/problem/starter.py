"""A small problem to start from: classify points on two half circles.

It runs without changes:

lca train FILE:problem --iterations 200 --out run.zarr
lca allocate run.zarr --problem FILE:problem
lca analyze layers run.zarr

Replace the model, the data and the loss with your own.
"""

import torch
from torch import nn

import lca


def problem(hidden: int = 32) -> lca.Problem:
    """Return the problem. The function's arguments are options: `--set hidden=64` makes the hidden layer wider."""
    # The initial weights are reproducible, because lca seeds torch (see `--seed`) before it calls this function.
    model = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    return lca.Problem(
        model,
        losses,
        # A batch has the structure of the data, here (x, y). A torch Dataset or DataLoader works too.
        train=two_moons(2_000, seed=0),
        val=two_moons(500, seed=1),
        # Optional: the class of each example, for `lca allocate --by-class`.
        groups=lambda batch: batch[1],
        # Optional: the unit of the losses, for texts and figures.
        unit="nats",
        # Optional: whether each prediction is correct, for accuracies.
        correct=lambda model, batch: model(batch[0]).argmax(dim=1) == batch[1],
    )


def losses(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return one loss per example. lca computes the mean over the whole split itself."""
    x, y = batch
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def two_moons(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n noisy points on two half circles, and their classes.

    The seed is fixed above, so that all runs share the same data and can be compared.
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    angle = torch.pi * torch.rand(n, generator=generator)
    x = torch.stack([torch.cos(angle) * (1 - 2 * y) + y, torch.sin(angle) * (1 - 2 * y) + y / 2], dim=1)
    return x + 0.15 * torch.randn(n, 2, generator=generator), y
