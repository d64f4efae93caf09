"""The optimizer loop of the built-in problems."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lca import checkpoint
from lca.batch import Batch, taken, tensors
from lca.device import resolve_device
from lca.errors import Interrupted, UsageError
from lca.interventions import Freeze, LayerOptions, frozen_from
from lca.layout import require_codec
from lca.location import Location, locate
from lca.optimizers import OPTIMIZERS, SCHEDULES, l2_term, make_optimizer, rate_factor, set_rates
from lca.parameters import ParameterTable, trainable, views
from lca.precision import in_precision
from lca.problem import Problem, per_example, weights_of
from lca.progress import bar
from lca.provenance import describe_splits
from lca.recorder import Recorder
from lca.signals import stop_signals
from lca.split import on_device
from lca.store import Run, open_run
from lca.stream import Stream, ahead, count


@dataclass(frozen=True)
class TrainConfig:
    """How to train. What is None is resolved on construction, but for the device, and stored as resolved."""

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    learning_rate: float | None = None  # by optimizer, see OPTIMIZERS
    momentum: float | None = None  # likewise; Adam and AdamW have none
    nesterov: bool = False  # SGD's
    l2: float | None = None  # ½ l2 ‖θ‖² is added to the training loss, never to L; AdamW has none
    weight_decay: float | None = None  # AdamW's, apart from any loss
    schedule: Literal["constant", "step", "cosine"] = "constant"  # of the learning rate
    milestones: Sequence[float] = ()  # epochs at which the schedule step multiplies it with gamma
    gamma: float | None = None  # 0.1 with the schedule step; no other has one
    freeze: Sequence[str] = ()  # layers that do not move: "LAYER", or "LAYER@ITERATION" from then on
    layers: Sequence[str] = ()  # options of layers of their own: "LAYER:lr=0.01,momentum=0.5"
    init_from: str | None = None  # start from an iterate of another run: "RUN", its last one, or "RUN@ITERATE"
    batch_size: int = 250  # as in the paper: 220 iterations an epoch on MNIST
    epochs: int | None = None
    iterations: int | None = None  # instead of epochs; one epoch if neither is given
    seed: int = 0  # of the order of the data and of dropout
    device: str = "auto"  # CUDA where there is one
    codec: str = "zstd"  # of the iterates: zstd, lz4 (fastest) or pcodec (smallest)

    def __post_init__(self) -> None:
        require_codec(self.codec)
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}; the known ones are {', '.join(known)}.")
        if self.iterations is not None and self.epochs is not None:
            raise UsageError("give epochs or iterations, not both.")
        if self.iterations is None and self.epochs is None:
            object.__setattr__(self, "epochs", 1)
        for name in ("batch_size", "epochs", "iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; at least 1 was wanted.")
        for name, default in OPTIMIZERS[self.optimizer].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            else:
                self._require(name, getattr(self, name))
        if not self.learning_rate:
            raise UsageError("learning_rate is 0; a positive number was wanted.")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise UsageError("nesterov needs sgd with a momentum over 0.")
        for name in ("milestones", "freeze", "layers"):
            if isinstance(getattr(self, name), str) or not isinstance(getattr(self, name), Sequence):
                raise UsageError(f"{name} is {getattr(self, name)!r}; a list of them was wanted.")
        if self.schedule == "step" and self.gamma is None:
            object.__setattr__(self, "gamma", 0.1)
        if (self.schedule == "step") != bool(self.milestones) or (self.schedule != "step" and self.gamma is not None):
            raise UsageError(
                "the schedule step needs milestones, the epochs at which it multiplies the learning rate with gamma; "
                "no other schedule has either."
            )
        numbers = [*self.milestones, *([] if self.gamma is None else [self.gamma])]
        if not all(0 < number < float("inf") for number in numbers):
            raise UsageError(f"milestones are {self.milestones}, gamma {self.gamma}; positive numbers were wanted.")
        for text in self.freeze:
            Freeze.parse(text)
        for text in self.layers:
            for name, value in LayerOptions.parse(text).options.items():
                self._require(name, value, f" in {text!r}")

    def _require(self, name: str, value: float, where: str = "") -> None:
        """Raise unless the optimizer has this option, and it may have this value."""
        if OPTIMIZERS[self.optimizer][name] is None:
            raise UsageError(f"{self.optimizer} has no {name}{where}; leave it out.")
        limit = 1 if name == "momentum" else float("inf")
        if not 0 <= value < limit:
            wanted = "0 <= momentum < 1" if name == "momentum" else "a positive number"
            raise UsageError(f"{name} is {value}{where}; {wanted} was wanted.")


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
    n_examples = count(problem.train)
    T, n_batches = n_iterations(config, n_examples), n_examples // config.batch_size
    _require_in_time(config, T, n_batches)
    attributes = _describe(problem, config, T, device)
    state = None
    if resume and not location.is_free():
        run = open_run(path)
        _require_same_training(run, attributes)
        if run.status == "complete":
            return run
        state = checkpoint.load(run)
        initial = run.attributes.get("initial")
    else:
        resume, initial = False, find_initial(config.init_from, location)
    data, scale = on_device(problem.train, problem.scale, device)
    model = problem.model.to(device).train()
    optimizer, frozen = make_optimizer(model, config), frozen_from(model, config.freeze)
    if initial and not state:
        start_from(model, **initial)
    torch.manual_seed(config.seed)
    recorder = Recorder(
        path,
        model,
        codec=config.codec,
        attributes={**attributes, **({"initial": initial} if initial else {}), "command": command},
        state=lambda: checkpoint.capture(model, optimizer),
        overwrite=overwrite,
        resume=resume,
    )
    with (
        stop_signals() as stop,
        in_precision("fp32", device),  # and deterministic, or resuming would not end with the same iterates
        recorder,
        bar(T, "train", shown=progress) as shown,
    ):
        if recorder.state:
            checkpoint.restore(model, optimizer, recorder.state)
        recorder.attach(optimizer)
        done = recorder.n_iterates - 1
        shown.update(done)
        where = "cpu" if isinstance(data, Stream) else tensors(data)[0].device
        indices = itertools.islice(batches(n_examples, config.batch_size, config.seed, done, where), T - done)
        for t, batch in enumerate(drawn(data, indices, device), start=done):
            set_rates(optimizer, rate_factor(config, t, T, n_batches))
            optimizer.zero_grad()
            loss = mean_loss(problem, model, batch, scale)
            recorder.log(loss=loss.detach() + l2_term(optimizer))
            loss.backward()  # type: ignore[no-untyped-call]
            for tensor, start in frozen:
                if t >= start:
                    tensor.grad = None  # and the optimizer leaves it alone
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


def batches(
    n_examples: int, batch_size: int, seed: int, start: int = 0, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Without end, from iteration start on: the indices (batch_size,) of each batch, on the device.

    A new permutation of the examples for each epoch, which only the seed and the epoch's number decide.
    """
    n_batches = n_examples // batch_size
    for epoch in itertools.count(start // n_batches):
        permutation = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n_examples)).to(device)
        for batch in range(start % n_batches, n_batches):
            yield permutation[batch * batch_size : (batch + 1) * batch_size]
        start = 0


def drawn(data: "Batch | Stream", indices: Iterable[Tensor], device: torch.device) -> Iterator[Batch]:
    """A batch of each of the indices, on the device, wherever the data are; the indices are there as well."""
    if isinstance(data, Stream):
        found: Iterable[Batch] = data.drawn(indices)
    else:
        found = (taken(data, index) for index in indices)
        if tensors(data)[0].device == device:
            yield from found
            return
    yield from (batch for batch, _ in ahead(((batch, None) for batch in found), device))


def mean_loss(problem: Problem, model: nn.Module, batch: Batch, scale: Callable[[Batch], Batch] | None) -> Tensor:
    """Of a batch, what the optimizer is to make smaller."""
    batch = scale(batch) if scale else batch
    weights = weights_of(problem.weigh, batch)
    losses = per_example(problem.losses, model, batch, weights)
    return losses.mean() if weights is None else losses.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def find_initial(source: str | None, target: Location) -> dict[str, Any] | None:
    """The run and the iterate that "RUN@ITERATE", or "RUN" for its last one, names."""
    if source is None:
        return None
    path, _, number = source.rpartition("@")
    if not path or not number.isdecimal() or locate(source).exists():
        path, number = source, ""
    run = open_run(path)
    if str(run.path) == str(target):
        raise UsageError(f"{path} is to start from itself; choose another place for the new run.")
    if not number and run.status != "complete":
        raise UsageError(f"{path} is unfinished, so its last iterate is not yet known; name one as in {path}@0.")
    iterate = int(number) if number else run.n_iterates - 1
    if not 0 <= iterate < run.n_iterates:
        raise UsageError(f"{path} has no iterate {iterate:,}; it has {run.n_iterates:,} of them, 0 first.")
    return {"run": path, "iterate": iterate}


@torch.no_grad()
def start_from(model: nn.Module, run: str, iterate: int) -> None:
    """Set the model's parameters to an iterate of a run.

    Buffers, such as BatchNorm's running statistics, stay as they are: a run has none, and training does not use them.
    """
    source = open_run(run)
    source.parameters.require_same(ParameterTable.of(model), run, "the model")
    theta = torch.from_numpy(np.asarray(source.weights[:, iterate]))
    for tensor, value in zip(trainable(model).values(), views(theta, source.parameters), strict=True):
        tensor.copy_(value)


def _require_in_time(config: TrainConfig, T: int, n_batches: int) -> None:
    """Raise where something is to happen after the end."""
    late = [f"freeze {text}" for text in config.freeze if Freeze.parse(text).start >= T]
    late += [f"milestone {epoch:g}" for epoch in config.milestones if epoch * n_batches >= T]
    if late:
        raise UsageError(
            f"{late[0]} is never reached: the training has {T:,} iterations, {T / n_batches:.3g} epochs of "
            f"{n_batches:,}."
        )


def _describe(problem: Problem, config: TrainConfig, T: int, device: torch.device) -> dict[str, Any]:
    """What the store says of the training, as resolved."""
    attributes = {
        "problem": problem.name,
        "problem_options": dict(problem.options),
        "train": {**asdict(config), "iterations": T, "device": str(device)},
        "splits": describe_splits(problem),
    }
    read_back: dict[str, Any] = json.loads(json.dumps(attributes))  # as it is compared with what a store has
    return read_back


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
