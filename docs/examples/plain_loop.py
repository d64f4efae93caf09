"""A custom training loop: attach the recorder to the optimizer, and leave the loop unchanged.

    .venv/bin/python docs/examples/plain_loop.py

Writes plain_loop.zarr, with one iterate per optimizer step, and prints the LCA of each layer. A layer with a value
below zero helped, because it lowered the loss. A loop that has access to the recorder can also store other
numbers by calling `recorder.log(accuracy=…)`.
"""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lca

EPOCHS, BATCH_SIZE = 5, 32


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: TensorDataset) -> None:
    for _ in range(EPOCHS):
        for batch in DataLoader(data, BATCH_SIZE, shuffle=True):
            optimizer.zero_grad()
            losses(model, batch).mean().backward()
            optimizer.step()


def losses(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return one loss per example. The allocated loss is their mean over the whole dataset."""
    x, y = batch
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def make() -> tuple[nn.Module, torch.optim.Optimizer, TensorDataset]:
    torch.manual_seed(0)
    x = torch.randn(256, 2)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.5), TensorDataset(x, (x.norm(dim=1) > 1.2).long())


def main(path: Path | str = "plain_loop.zarr") -> None:
    model, optimizer, data = make()
    with lca.Recorder(path, model, overwrite=True) as recorder:  # overwrite the run of an earlier call
        recorder.attach(optimizer)
        train(model, optimizer, data)

    summary = lca.allocate(path, lca.Problem(model, losses, train=data))
    layers = lca.analysis.layers(lca.open(path))
    for layer, total in zip(layers.layers, layers.total, strict=True):
        print(f"{layer:4} {total:8.4f} nats")
    print(f"sum  {summary.allocated:8.4f} nats, and the loss changed by {summary.change:.4f}")


if __name__ == "__main__":
    main()
