"""Lightning: a callback records while `Trainer.fit` trains.

    .venv-integrations/bin/python docs/examples/lightning_trainer.py

Writes lightning_trainer.zarr and prints the LCA of each layer. A layer with a value below zero helped. There are
trainer.global_step + 1 iterates, because Lightning counts optimizer steps, even with gradient accumulation.
"""

from contextlib import ExitStack
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lca

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Record(L.Callback):
    """Callback that records from the start of training to its end.

    When training starts, the optimizer exists, the model is on its device, and the weights of a checkpoint are loaded.
    An exception ends the recording and leaves the run unfinished.
    """

    def __init__(self, path: Path | str) -> None:
        self.path, self.recording = path, ExitStack()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        recorder = self.recording.enter_context(lca.Recorder(self.path, module, overwrite=True))
        (optimizer,) = trainer.optimizers
        recorder.attach(optimizer, getattr(trainer.precision_plugin, "scaler", None))  # only "16-mixed" has one

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.recording.close()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.recording.__exit__(type(exception), exception, exception.__traceback__)


class Classifier(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 2))

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return losses(self, batch).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


def losses(module: Classifier, batch: list[torch.Tensor]) -> torch.Tensor:
    x, y = batch
    return nn.functional.cross_entropy(module.net(x), y, reduction="none")


def make() -> tuple[Classifier, TensorDataset]:
    L.seed_everything(0, verbose=False)
    x = torch.randn(240, 2)
    return Classifier(), TensorDataset(x, (x.norm(dim=1) > 1.2).long())


def train(module: Classifier, data: TensorDataset, *callbacks: L.Callback) -> L.Trainer:
    trainer = L.Trainer(max_epochs=10, accumulate_grad_batches=4, callbacks=list(callbacks), **QUIET)
    trainer.fit(module, DataLoader(data, batch_size=16, shuffle=True))  # 15 batches: 4 steps per epoch
    return trainer


def main(path: Path | str = "lightning_trainer.zarr") -> None:
    module, data = make()
    trainer = train(module, data, Record(path))

    summary = lca.allocate(path, lca.Problem(module, losses, train=data))
    run = lca.open(path)
    layers = lca.analysis.layers(run)
    for layer, total in zip(layers.layers, layers.total, strict=True):
        print(f"{layer:6} {total:8.4f} nats")
    print(f"sum    {summary.allocated:8.4f} nats, and the loss changed by {summary.change:.4f}")
    print(f"{run.n_iterates} iterates of {trainer.global_step} steps")


if __name__ == "__main__":
    main()
