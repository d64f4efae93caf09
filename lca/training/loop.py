"""The training loop."""

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
from lca.errors import Argument, Interrupted, LCAError, UsageError
from lca.problem.batches import Batch, get_tensors
from lca.problem.losses import compute_losses, compute_weights
from lca.problem.objective import move_to_device, require_supported
from lca.problem.problem import Problem, require_problem
from lca.problem.provenance import describe_problem
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
from lca.store.run_writer import RunWriter
from lca.training.batch_order import draw_batches, draw_indices
from lca.training.config import TrainConfig
from lca.training.initial import find_initial, start_from
from lca.training.layer_options import find_frozen
from lca.training.optimizers import compute_l2_term, compute_rate_factor, make_optimizer, set_rates


@dataclass(frozen=True)
class Plan:
    """A training run with all of its options resolved.

    `n_iterations` is T, `n_batches` is the number of iterations per epoch, and `attributes` describes the training in
    the store.
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
    """Train the model of a problem in place and record every iterate.

    Each epoch visits the examples of the training split in a new random order. An incomplete last mini-batch is
    dropped. The same seed on the same device gives the same iterates, even if training is interrupted and resumed.
    After SIGINT or SIGTERM, training stops at the end of the iteration and keeps the finished ones.

    Args:
        problem: Problem to train.
        path: Path or URL of the run.
        config: Training configuration. None stands for the defaults.
        overwrite: Whether to replace an existing run.
        resume: Whether to continue the run if it exists. A finished run is returned unchanged.
        command: Command line to store with the run.
        progress: Whether to show a progress bar on stderr.
        **options: Fields of `TrainConfig` that override `config`.

    Returns:
        The run.

    Raises:
        UsageError: If an option is invalid, or if the existing run was trained differently.
        LCAError: If a parameter became NaN or infinite. Training stops soon afterwards, and the run ends with the last
            iterate that is finite.
        Interrupted: If a signal stopped the training.

    Example:
        >>> run = lca.train(problem, "run.zarr", learning_rate=0.1, iterations=200)
    """
    require_problem(problem)
    plan, location = _plan(problem, resolve(TrainConfig, config, options)), locate(path)
    existing = _find_existing(location, plan) if resume else None
    if existing is not None and existing.status == "complete":
        return existing
    optimizer, attributes = _set_up(plan, location, existing)
    recorder = Recorder(
        path,
        problem.model,
        problem=problem,
        codec=plan.config.codec,
        attributes={**attributes, "command": command},
        state=lambda: resume_state.capture(problem.model, optimizer),
        overwrite=overwrite,
        resume=existing is not None,
    )
    with use_precision("fp32", plan.device):  # deterministic, so that a resumed run equals an uninterrupted one
        _run_loop(plan, optimizer, recorder, progress)
    if recorder.first_not_finite is not None:
        _end_before(recorder.run, recorder.first_not_finite)
    return recorder.run


def _set_up(plan: Plan, location: Location, existing: Run | None) -> tuple[Optimizer, dict[str, Any]]:
    """Put the model in the state from which training starts. Return its optimizer and the attributes of the run."""
    initial = existing.attributes.get("initial") if existing else find_initial(plan.config.init_from, location)
    model = plan.problem.model.to(plan.device).train()
    optimizer = make_optimizer(model, plan.config)
    if initial and not (existing and resume_state.load(existing)):
        start_from(model, **initial)
    torch.manual_seed(plan.config.seed)
    return optimizer, plan.attributes | ({"initial": initial} if initial else {})


def _run_loop(plan: Plan, optimizer: Optimizer, recorder: Recorder, progress: bool) -> None:
    """Train until iteration T. If the recorder resumes a run, begin with the state that it loaded."""
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
                    tensor.grad = None  # so the optimizer does not move it
            optimizer.step()
            shown.update()
            if recorder.first_not_finite is not None:
                return
            if stop.name:
                raise Interrupted(
                    f"stopped by {stop.name} after {recorder.n_iterates - 1:,} of {T:,} iterations. The recorded "
                    "iterates are kept",
                    remedy=("To continue, pass ", Argument("resume", True), "."),
                )


def _end_before(run: Run, t: int) -> None:
    """End a run before iterate t, the first that is not finite: remove it and all later ones, and raise LCAError."""
    writer = RunWriter(run)
    with writer.lock():
        writer.truncate(t)
        writer.set_attributes(diverged_at=t)
        writer.finish()
    raise LCAError(
        f"training diverged: iteration {t - 1:,} made a parameter NaN or infinite. {run.path} is complete and ends "
        f"with iterate {t - 1:,}, the last finite one",
        remedy="Lower the learning rate, or check the data and the loss for values that are not finite.",
    )


def compute_mean_loss(
    problem: Problem, model: nn.Module, batch: Batch, scale: Callable[[Batch], Batch] | None
) -> Tensor:
    """Return the loss that the optimizer minimizes: the mean over a mini-batch, weighted if the problem has weights."""
    batch = scale(batch) if scale else batch
    weights = compute_weights(problem.weigh, batch)
    losses = compute_losses(problem.losses, model, batch, weights)
    return losses.mean() if weights is None else losses.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def count_iterations(config: TrainConfig, n_examples: int) -> int:
    """Return the number of iterations T that the configuration asks for."""
    if config.batch_size > n_examples:
        expected = f"at most {n_examples:,}, the size of the training split"
        raise UsageError("batch_size", expected=expected, found=f"{config.batch_size:,}")
    return config.iterations or (config.epochs or 1) * (n_examples // config.batch_size)


def _plan(problem: Problem, config: TrainConfig) -> Plan:
    """Return the plan of a training run. Raise UsageError if a freeze or a milestone comes after the last iteration."""
    device, n_examples = resolve_device(config.device), count_examples(problem.train)
    require_supported(problem, "train", device)
    T, n_batches = count_iterations(config, n_examples), n_examples // config.batch_size
    late = [f"freeze {text}" for text in config.freeze if Freeze.parse(text).start >= T]
    late += [f"milestone {epoch:g}" for epoch in config.milestones if epoch * n_batches >= T]
    if late:
        length = f"{T:,} iterations ({T / n_batches:.3g} epochs)"
        raise UsageError(
            f"{late[0]} is never reached, because training ends after {length}",
            remedy="Leave it out, or train longer.",
        )
    attributes = {
        **describe_problem(problem),
        "train": {**asdict(config), "iterations": T, "device": str(device)},
    }
    # The conversion to JSON and back makes the attributes comparable with those read from an existing run.
    return Plan(problem, config, device, T, n_batches, json.loads(json.dumps(attributes)))


def _find_existing(location: Location, plan: Plan) -> Run | None:
    """Return the run to resume, or None if there is none. Raise UsageError if it was trained differently."""
    if location.is_free():
        return None
    run = open_run(location)
    _require_same_training(run, plan.attributes)
    return run


def _require_same_training(run: Run, attributes: Mapping[str, Any]) -> None:
    """Raise UsageError with a list of the differences if the run was not trained with these attributes."""
    differ = {
        key: (run.attributes.get(key), value) for key, value in attributes.items() if run.attributes.get(key) != value
    }
    if "train" in differ:
        stored, requested = differ.pop("train")
        stored = stored or {}
        differ |= {key: (stored.get(key), requested[key]) for key in requested if stored.get(key) != requested[key]}
    other_data = ["the data differ"] if differ.pop("splits", None) else []
    differences = [f"{key}: stored {a}, requested {b}" for key, (a, b) in differ.items()] + other_data
    if differences:
        raise UsageError(
            f"{run.path} was trained differently ({', '.join(differences)})",
            remedy="Use the same problem and options to resume it, or choose another path.",
        )
