"""Gradient accumulation: there is one iterate per optimizer step, however many mini-batches it uses.

    .venv/bin/python docs/examples/accumulation.py

Writes accumulation.zarr and prints the LCA of each layer. A layer with a value below zero helped.
"""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lca

EPOCHS, BATCH_SIZE, ACCUMULATE = 10, 16, 4


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: TensorDataset) -> None:
    for _ in range(EPOCHS):
        for i, batch in enumerate(DataLoader(data, BATCH_SIZE, shuffle=True), start=1):
            (losses(model, batch).mean() / ACCUMULATE).backward()
            if i % ACCUMULATE == 0:
                optimizer.step()
                optimizer.zero_grad()


def losses(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def make() -> tuple[nn.Module, torch.optim.Optimizer, TensorDataset]:
    torch.manual_seed(0)
    x = torch.randn(256, 2)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    return model, torch.optim.Adam(model.parameters(), lr=0.02), TensorDataset(x, (x.norm(dim=1) > 1.2).long())


def main(path: Path | str = "accumulation.zarr") -> None:
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
