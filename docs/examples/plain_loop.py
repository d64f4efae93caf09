"""A loop of one's own: the recorder is attached to the optimizer, and the loop stays as it is.

    .venv/bin/python docs/examples/plain_loop.py

Writes plain_loop.zarr, with an iterate for each optimizer.step(), and prints the LCA of each layer. Where the loop can
see the recorder, `recorder.log(accuracy=…)` keeps numbers of its own beside the iterates.
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
    """One loss for each example: what is allocated is their mean over all the data."""
    x, y = batch
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def make() -> tuple[nn.Module, torch.optim.Optimizer, TensorDataset]:
    torch.manual_seed(0)
    x = torch.randn(256, 2)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.5), TensorDataset(x, (x.norm(dim=1) > 1.2).long())


def main(path: Path | str = "plain_loop.zarr") -> None:
    model, optimizer, data = make()
    with lca.Recorder(path, model, overwrite=True) as recorder:  # in place of what an earlier call left
        recorder.attach(optimizer)
        train(model, optimizer, data)

    summary = lca.allocate(path, lca.Problem(model, losses, train=data))
    layers = lca.analysis.layers(lca.open(path))
    for layer, total in zip(layers.layers, layers.total, strict=True):
        print(f"{layer:4} {total:8.4f} nats")
    print(f"sum  {summary.allocated:8.4f} nats, and the loss changed by {summary.change:.4f}")


if __name__ == "__main__":
    main()
