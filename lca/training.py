"""The optimizer loop of the built-in problems."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from lca import checkpoint
from lca.device import resolve_device
from lca.errors import Interrupted, UsageError
from lca.layout import require_codec
from lca.location import locate
from lca.problem import Problem, per_example
from lca.progress import bar
from lca.provenance import describe_splits
from lca.recorder import Recorder
from lca.signals import stop_signals
from lca.split import on_device
from lca.store import Run, open_run

# The rate of SGD is mnist-fc's recipe, the others are torch's own for Adam and its like; SGD's momentum is the paper's.
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
    codec: str = "zstd"  # of the iterates: zstd, lz4 (fastest) or pcodec (smallest)

    def __post_init__(self) -> None:
        require_codec(self.codec)
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
        if self.learning_rate is None or not self.learning_rate > 0:
            raise UsageError(f"learning_rate is {self.learning_rate}; a positive number was wanted.")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise UsageError(f"momentum is {self.momentum}; 0 <= momentum < 1 was wanted.")


def train(
    problem: Problem,
    path: Path | str,
    config: TrainConfig | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    command: str | None = None,
    progress: bool = False,
) -> Run:
    """Train the problem's model in place and record every iterate into a run store.

    Each epoch runs through a new permutation of the training split; the last partial batch of an epoch is dropped.
    The same seed on the same device gives the same iterates, also where the training was killed and resumed.
    resume: go on with the run that is there; with a finished one there is nothing to do, and without one it begins.
    On SIGINT or SIGTERM it stops after the iteration, keeps what is done, and raises Interrupted.
    """
    config, location = config or TrainConfig(), locate(path)
    device = resolve_device(config.device)
    T = n_iterations(config, len(problem.train[0]))
    attributes = _describe(problem, config, T, device)
    resume = resume and not location.is_free()
    if resume:
        run = open_run(path)
        _require_same_training(run, attributes)
        if run.status == "complete":
            return run
    data, scale = on_device(problem.train, problem.scale, device)
    model = problem.model.to(device).train()
    optimizer = make_optimizer(model, config)
    torch.manual_seed(config.seed)
    recorder = Recorder(
        path,
        model,
        codec=config.codec,
        attributes={**attributes, "command": command},
        state=lambda: checkpoint.capture(model, optimizer),
        overwrite=overwrite,
        resume=resume,
    )
    with stop_signals() as stop, recorder, bar(T, "train", shown=progress) as shown:
        if recorder.state:
            checkpoint.restore(model, optimizer, recorder.state)
        recorder.attach(optimizer)
        done = recorder.n_iterates - 1
        shown.update(done)
        for index in islice(batches(len(data[0]), config.batch_size, config.seed, done), T - done):
            optimizer.zero_grad()
            batch = tuple(x[index] for x in data)
            loss = per_example(problem.losses, model, scale(batch) if scale else batch).mean()
            recorder.log(loss=loss)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            shown.update()
            if stop.name:
                raise Interrupted(
                    f"stopped by {stop.name} after {recorder.n_iterates - 1:,} of {T:,} iterations; they are kept. "
                    "Go on with the same command and --resume."
                )
    return recorder.run


def n_iterations(config: TrainConfig, n_examples: int) -> int:
    """T, from the iterations or the epochs asked for."""
    if config.batch_size > n_examples:
        raise UsageError(
            f"a batch of {config.batch_size:,} is larger than the training split of {n_examples:,} examples."
        )
    return config.iterations or (config.epochs or 1) * (n_examples // config.batch_size)


def batches(n_examples: int, batch_size: int, seed: int, start: int = 0) -> Iterator[Tensor]:
    """Without end, from iteration start on: the indices (batch_size,) of each batch.

    A new permutation of the examples for each epoch, which only the seed and the epoch's number decide.
    """
    n_batches = n_examples // batch_size
    for epoch in count(start // n_batches):
        permutation = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n_examples))
        for batch in range(start % n_batches, n_batches):
            yield permutation[batch * batch_size : (batch + 1) * batch_size]
        start = 0


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    options: dict[str, Any] = {"lr": config.learning_rate}
    if config.momentum is not None:
        options["momentum"] = config.momentum
    kinds: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "rmsprop": RMSprop}
    return kinds[config.optimizer](model.parameters(), **options)


def _describe(problem: Problem, config: TrainConfig, T: int, device: torch.device) -> dict[str, Any]:
    """What the store says of the training, as resolved."""
    return {
        "problem": problem.name,
        "problem_options": dict(problem.options),
        "train": {**asdict(config), "iterations": T, "device": str(device)},
        "splits": describe_splits(problem),
    }


def _require_same_training(run: Run, attributes: Mapping[str, Any]) -> None:
    """Raise if the run was not trained as these attributes say, naming what differs."""
    differ = {
        key: (run.attributes.get(key), value) for key, value in attributes.items() if run.attributes.get(key) != value
    }
    if "train" in differ:
        there, here = differ.pop("train")
        there = there or {}
        differ |= {key: (there.get(key), here[key]) for key in here if there.get(key) != here[key]}
    if "splits" in differ:
        differ["splits"] = ("other data", "these")
    if differ:
        told = ", ".join(f"{key} {there} there and {here} here" for key, (there, here) in differ.items())
        raise UsageError(f"{run.path} was trained otherwise: {told}. Give the same to resume it, or another place.")
