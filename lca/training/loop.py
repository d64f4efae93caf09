"""The optimizer loop."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lca.config import resolve
from lca.errors import Argument, Interrupted, UsageError
from lca.problem.batches import Batch, get_tensors
from lca.problem.losses import compute_losses, compute_weights
from lca.problem.objective import move_to_device
from lca.problem.problem import Problem, require_problem
from lca.problem.provenance import describe_splits
from lca.problem.streaming import StreamedDataset, count_examples
from lca.recording import resume_state
from lca.recording.recorder import Recorder
from lca.runtime.device import resolve_device
from lca.runtime.precision import use_precision
from lca.runtime.progress import make_progress_bar
from lca.runtime.signals import catch_stop_signals
from lca.store.layer_options import Freeze
from lca.store.paths import Location, locate
from lca.store.run import Run, open_run
from lca.training.batch_order import draw_batches, draw_indices
from lca.training.config import TrainConfig
from lca.training.initial import find_initial, start_from
from lca.training.layer_options import find_frozen
from lca.training.optimizers import compute_l2_term, compute_rate_factor, make_optimizer, set_rates


@dataclass(frozen=True)
class Plan:
    """A training as resolved.

    n_iterations: T. n_batches: iterations of an epoch. attributes: what the store says of the training.
    """

    problem: Problem
    config: TrainConfig
    device: torch.device
    n_iterations: int
    n_batches: int
    attributes: dict[str, Any]


def train(
    problem: Problem,
    path: Path | str,
    config: TrainConfig | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    command: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Train the problem's model in place and record every iterate into a run store.

    Each epoch runs through a new permutation of the training split; the last partial batch of an epoch is dropped.
    The same seed on the same device gives the same iterates, also if the training was killed and resumed.
    On SIGINT or SIGTERM it stops after the iteration and keeps what is done.

    Args:
        problem: The model, its losses and its data.
        path: The run store to create, a path or a URL.
        config: How to train.
        overwrite: Replace an existing run.
        resume: Continue an existing run, or start a new one; a finished run is returned as it is.
        command: The command line to store with the run.
        progress: Show a progress bar on stderr.
        **options: Fields of TrainConfig, in place of those of `config`.

    Returns:
        The run.

    Raises:
        UsageError: If the options are invalid, or an existing run was trained differently.
        Interrupted: If the training was stopped by a signal.

    Example:
        >>> run = lca.train(problem, "run.zarr", learning_rate=0.1, iterations=200)
    """
    require_problem(problem)
    plan, location = _plan(problem, resolve(TrainConfig, config, options)), locate(path)
    existing = _find_existing(location, plan) if resume else None
    if existing is not None and existing.status == "complete":
        return existing
    initial = existing.attributes.get("initial") if existing else find_initial(plan.config.init_from, location)
    model = problem.model.to(plan.device).train()
    optimizer = make_optimizer(model, plan.config)
    if initial and not (existing and resume_state.load(existing)):
        start_from(model, **initial)
    torch.manual_seed(plan.config.seed)
    recorder = Recorder(
        path,
        model,
        codec=plan.config.codec,
        attributes={**plan.attributes, **({"initial": initial} if initial else {}), "command": command},
        state=lambda: resume_state.capture(model, optimizer),
        overwrite=overwrite,
        resume=existing is not None,
    )
    with use_precision("fp32", plan.device):  # and deterministic, or resuming would not end with the same iterates
        _run_loop(plan, optimizer, recorder, progress)
    return recorder.run


def _run_loop(plan: Plan, optimizer: Optimizer, recorder: Recorder, progress: bool) -> None:
    """Train until iteration T."""
    problem, config, model, T = plan.problem, plan.config, plan.problem.model, plan.n_iterations
    data, scale = move_to_device(problem.train, problem.scale, plan.device)
    frozen = find_frozen(model, config.freeze)
    with catch_stop_signals() as stop, recorder, make_progress_bar(T, "train", shown=progress) as shown:
        if recorder.state:
            resume_state.restore(model, optimizer, recorder.state)
        recorder.attach(optimizer)
        done = recorder.n_iterates - 1
        shown.update(done)
        where = "cpu" if isinstance(data, StreamedDataset) else get_tensors(data)[0].device
        indices = draw_indices(count_examples(problem.train), config.batch_size, config.seed, done, where)
        batches = draw_batches(data, itertools.islice(indices, T - done), plan.device)
        for t, batch in enumerate(batches, start=done):
            set_rates(optimizer, compute_rate_factor(config, t, T, plan.n_batches))
            optimizer.zero_grad()
            loss = compute_mean_loss(problem, model, batch, scale)
            recorder.log(loss=loss.detach() + compute_l2_term(optimizer))
            loss.backward()  # type: ignore[no-untyped-call]
            for tensor, start in frozen:
                if t >= start:
                    tensor.grad = None  # and the optimizer does not move it
            optimizer.step()
            shown.update()
            if stop.name:
                raise Interrupted(
                    f"stopped by {stop.name} after {recorder.n_iterates - 1:,} of {T:,} iterations, which are kept",
                    remedy=("To continue, pass ", Argument("resume", True), "."),
                )


def compute_mean_loss(
    problem: Problem, model: nn.Module, batch: Batch, scale: Callable[[Batch], Batch] | None
) -> Tensor:
    """The loss of a mini-batch, which the optimizer minimises."""
    batch = scale(batch) if scale else batch
    weights = compute_weights(problem.weigh, batch)
    losses = compute_losses(problem.losses, model, batch, weights)
    return losses.mean() if weights is None else losses.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def count_iterations(config: TrainConfig, n_examples: int) -> int:
    """T, from the requested iterations or epochs."""
    if config.batch_size > n_examples:
        expected = f"at most {n_examples:,}, the examples of the training split"
        raise UsageError("batch_size", expected=expected, found=f"{config.batch_size:,}")
    return config.iterations or (config.epochs or 1) * (n_examples // config.batch_size)


def _plan(problem: Problem, config: TrainConfig) -> Plan:
    """Resolve a training; UsageError if something would happen after its end."""
    device, n_examples = resolve_device(config.device), count_examples(problem.train)
    T, n_batches = count_iterations(config, n_examples), n_examples // config.batch_size
    late = [f"freeze {text}" for text in config.freeze if Freeze.parse(text).start >= T]
    late += [f"milestone {epoch:g}" for epoch in config.milestones if epoch * n_batches >= T]
    if late:
        length = f"{T:,} iterations, {T / n_batches:.3g} epochs of {n_batches:,}"
        raise UsageError(f"{late[0]} is never reached: the training has {length}.")
    attributes = {
        "problem": problem.name,
        "problem_options": dict(problem.options),
        "train": {**asdict(config), "iterations": T, "device": str(device)},
        "splits": describe_splits(problem),
    }
    # As it is compared with what a store holds.
    return Plan(problem, config, device, T, n_batches, json.loads(json.dumps(attributes)))


def _find_existing(location: Location, plan: Plan) -> Run | None:
    """The run to resume; None if there is none. UsageError if it was trained differently."""
    if location.is_free():
        return None
    run = open_run(location)
    _require_same_training(run, plan.attributes)
    return run


def _require_same_training(run: Run, attributes: Mapping[str, Any]) -> None:
    """Raise UsageError if the run was not trained as these attributes say, naming what differs."""
    differ = {
        key: (run.attributes.get(key), value) for key, value in attributes.items() if run.attributes.get(key) != value
    }
    if "train" in differ:
        stored, requested = differ.pop("train")
        stored = stored or {}
        differ |= {key: (stored.get(key), requested[key]) for key in requested if stored.get(key) != requested[key]}
    if "splits" in differ:
        differ["splits"] = ("other data", "these data")
    if differ:
        differences = ", ".join(f"{key}: stored {a}, requested {b}" for key, (a, b) in differ.items())
        raise UsageError(
            f"{run.path} was trained with other options ({differences})",
            remedy="Pass the same options to resume it, or choose another path.",
        )
