"""Mixed precision: a step that the gradient scaler skips is recorded as an iteration without motion.

    .venv/bin/python docs/examples/amp.py

Writes amp.zarr and prints the LCA of each layer. A layer with a value below zero helped. The recorder needs the scaler,
because the optimizer is not called when a step is skipped. The parameters and the allocated loss are float32. To
allocate in bfloat16, pass AllocateConfig(precision="bf16").
"""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lca

EPOCHS, BATCH_SIZE = 8, 32
DEVICE, DTYPE, SCALE = (
    ("cuda", torch.float16, 2.0**24) if torch.cuda.is_available() else ("cpu", torch.bfloat16, 2.0**127)
)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, data: TensorDataset
) -> None:
    for _ in range(EPOCHS):
        for batch in DataLoader(data, BATCH_SIZE, shuffle=True):
            optimizer.zero_grad()
            with torch.autocast(DEVICE, DTYPE):
                loss = losses(model, [x.to(DEVICE) for x in batch]).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()


def losses(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def make() -> tuple[nn.Module, torch.optim.Optimizer, torch.amp.GradScaler, TensorDataset]:
    torch.manual_seed(0)
    x = torch.randn(256, 2)
    data = TensorDataset(
        x, (8 * torch.atan2(x[:, 0], x[:, 1]) / torch.pi).floor().long() + 8
    )  # 16 sectors of the plane
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 16)).to(DEVICE)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=SCALE, growth_interval=10)  # overflows at first and after growth
    return model, torch.optim.SGD(model.parameters(), lr=0.02), scaler, data


def main(path: Path | str = "amp.zarr") -> None:
    model, optimizer, scaler, data = make()
    with lca.Recorder(path, model, overwrite=True) as recorder:  # overwrite the run of an earlier call
        recorder.attach(optimizer, scaler)
        train(model, optimizer, scaler, data)

    summary = lca.allocate(path, lca.Problem(model, losses, train=data))
    run = lca.open(path)
    layers = lca.analysis.layers(run)
    for layer, total in zip(layers.layers, layers.total, strict=True):
        print(f"{layer:4} {total:8.4f} nats")
    print(f"sum  {summary.allocated:8.4f} nats, and the loss changed by {summary.change:.4f}")
    print(f"{run.n_unmoved} of {run.n_iterations} steps were skipped")


if __name__ == "__main__":
    main()
