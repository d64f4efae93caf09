"""The optimizer loop of the built-in problems."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from lca.device import resolve_device
from lca.errors import UsageError
from lca.problem import Batch, Problem, per_example
from lca.progress import bar
from lca.provenance import describe_splits
from lca.recorder import Recorder
from lca.store import Run

# The learning rates are those that train the built-in networks well; the momentum of SGD is the paper's.
OPTIMIZERS: dict[str, dict[str, float | None]] = {
    "sgd": {"learning_rate": 0.05, "momentum": 0.9},
    "adam": {"learning_rate": 0.001, "momentum": None},
    "rmsprop": {"learning_rate": 0.001, "momentum": 0.0},
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train. What is None is resolved on construction, but for the device, and stored as resolved."""

    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"
    learning_rate: float | None = None  # by optimizer, see OPTIMIZERS
    momentum: float | None = None  # likewise; Adam has none
    batch_size: int = 250  # as in the paper: 220 iterations an epoch on MNIST
    epochs: int | None = None
    iterations: int | None = None  # instead of epochs; one epoch if neither is given
    seed: int = 0  # of the order of the data and of dropout
    device: str = "auto"  # CUDA where there is one

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"unknown optimizer {self.optimizer!r}; the known ones are {', '.join(OPTIMIZERS)}.")
        for name, default in OPTIMIZERS[self.optimizer].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            elif default is None:
                raise UsageError(f"{self.optimizer} has no {name}; leave it out.")
        if self.iterations is not None and self.epochs is not None:
            raise UsageError("give epochs or iterations, not both.")
        if self.iterations is None and self.epochs is None:
            object.__setattr__(self, "epochs", 1)
        for name in ("batch_size", "epochs", "iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; at least 1 was wanted.")
        if not self.learning_rate or self.learning_rate < 0:
            raise UsageError(f"learning_rate is {self.learning_rate}; a positive number was wanted.")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UsageError(f"momentum is {self.momentum}; 0 <= momentum < 1 was wanted.")


def train(
    problem: Problem,
    path: Path | str,
    config: TrainConfig | None = None,
    *,
    overwrite: bool = False,
    command: str | None = None,
    progress: bool = False,
) -> Run:
    """Train the problem's model in place and record every iterate into a new run store.

    Each epoch runs through a new permutation of the training split; the last partial batch of an epoch is dropped.
    The same seed on the same device gives the same iterates.
    """
    config = config or TrainConfig()
    device = resolve_device(config.device)
    data = tuple(x.to(device) for x in problem.train)
    T = n_iterations(config, len(data[0]))
    model = problem.model.to(device).train()
    optimizer = make_optimizer(model, config)
    attributes = {
        "problem": problem.name,
        "problem_options": dict(problem.options),
        "train": {**asdict(config), "iterations": T, "device": str(device)},
        "splits": describe_splits(problem),
        "command": command,
    }
    torch.manual_seed(config.seed)
    order = batches(len(data[0]), config.batch_size, config.seed)
    with (
        Recorder(path, model, attributes=attributes, overwrite=overwrite) as recorder,
        bar(T, "train", shown=progress) as shown,
    ):
        for _, index in zip(range(T), order, strict=False):
            loss = _step(problem, model, optimizer, tuple(x[index] for x in data))
            recorder.record(loss=loss, learning_rate=optimizer.param_groups[0]["lr"])
            shown.update()
    return recorder.run


def n_iterations(config: TrainConfig, n_examples: int) -> int:
    """T, from the iterations or the epochs asked for."""
    if config.batch_size > n_examples:
        raise UsageError(
            f"a batch of {config.batch_size:,} is larger than the training split of {n_examples:,} examples."
        )
    return config.iterations or (config.epochs or 1) * (n_examples // config.batch_size)


def batches(n_examples: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Without end: the indices (batch_size,) of each batch, a new permutation of the examples for each epoch."""
    random = np.random.default_rng(seed)
    while True:
        permutation = torch.from_numpy(random.permutation(n_examples))
        for begin in range(0, n_examples - batch_size + 1, batch_size):
            yield permutation[begin : begin + batch_size]


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    options: dict[str, Any] = {"lr": config.learning_rate}
    if config.momentum is not None:
        options["momentum"] = config.momentum
    kinds: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "rmsprop": RMSprop}
    return kinds[config.optimizer](model.parameters(), **options)


def _step(problem: Problem, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
    """One step of the optimizer; the mini-batch loss before it."""
    optimizer.zero_grad()
    loss = per_example(problem.losses, model, batch).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()
