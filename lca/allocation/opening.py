"""Creates an allocation, or opens one to continue it, after checking that it fits the run and the problem."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import numpy as np
import torch

from lca.allocation.batch_size import BatchFormat, choose_batch_format, require_memory
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.errors import Argument, Call, LCAError, Remedy, UsageError
from lca.model.evaluation_mode import has_batchnorm
from lca.model.parameters import build_table, get_trainable, require_same_model
from lca.problem.batches import Batch
from lca.problem.objective import Objective
from lca.problem.problem import NATS, Problem, require_problem
from lca.problem.provenance import compute_digest, require_same_data, require_same_frozen
from lca.problem.reference import ReferenceLosses
from lca.problem.streaming import StreamedDataset, count_examples
from lca.runtime.workers import Phase, Workers
from lca.store.allocation import Allocation
from lca.store.paths import remove_half_written
from lca.store.run import Run
from lca.store.run_writer import RunWriter

TOLERANCE_NATS = 1e-3  # the tolerance of the paper, in nats
RELATIVE_TOLERANCE = 4e-4  # the same tolerance, as a fraction of the paper's first loss
REPLACE: Remedy = (
    "Pass the same problem and options, another ",
    *(Argument("name"), ", or ", Argument("overwrite", True), " to replace it."),
)
SAME_LOSS = 1e-3  # relative difference allowed between losses at one iterate with different precisions or batches


def is_finished(run: Run, config: AllocateConfig) -> bool:
    """Return whether the allocation of this name exists and is complete."""
    return config.name in run.allocations and run.allocation(str(config.name)).complete


def require_same_problem(run: Run, problem: Problem, config: AllocateConfig) -> list[str]:
    """Raise LCAError unless the run is complete and was recorded with the parameters and data of this problem.

    Returns a list with a note if the run was recorded with a problem of another name.
    """
    require_problem(problem)
    _require_complete(run)
    tensors = get_trainable(problem.model)
    require_same_model(run, tensors, build_table(problem.model, tensors), f"the model of {problem.name}")
    require_same_data(run, problem, config.split)
    trained = run.attributes.get("problem", problem.name)
    other = [] if problem.name in ("custom", trained) else [trained]
    require_same_frozen(run, problem.model)
    return [f"the run was trained on {name}, but the allocated loss is that of {problem.name}" for name in other]


def require_same_first_loss(allocation: Allocation, t: int, loss: float) -> None:
    """Raise LCAError if the loss at the first iterate t differs from the one that the allocation stores, if any."""
    stored = float(allocation.read_part("loss", t))
    if np.isfinite(stored) and abs(loss - stored) > SAME_LOSS * max(abs(loss), abs(stored)):
        raise LCAError(
            f"the loss at iterate {t} differs from the one in {allocation.path}, which was started with a "
            "different loss, model or dataset",
            expected=f"{stored:.9g}",
            found=f"{loss:.9g}",
            remedy=REPLACE,
        )


def require_same_data_everywhere(team: Workers, data: Batch | StreamedDataset, split: str) -> None:
    """Raise LCAError if the processes have different data, for example because a dataset is divided among them."""
    if team.size == 1:
        return
    own = [count_examples(data), compute_digest(data, split)]
    if team.first:
        team.publish("data", own)
        team.add(Phase.DATA)
    team.wait(Phase.DATA)
    first = team.read("data")
    if first != own:
        raise LCAError(
            f"the data of process {team.rank} of {team.size}",
            expected=f"the same {first[0]:,} examples as in the first process",
            found=f"{own[0]:,} examples" + (" with different values" if own[0] == first[0] else ""),
            remedy="Every process needs the whole split. Do not divide the dataset by RANK.",
        )


def choose_format(objective: Objective, config: AllocateConfig) -> BatchFormat:
    """Return the requested batch size and memory format of the passes, or choose those that are not given."""
    return choose_batch_format(objective, batch_size=config.batch_size, channels_last=config.channels_last)


def require_enough_memory(objective: Objective, config: AllocateConfig, chosen: BatchFormat) -> None:
    """Raise LCAError if a batch does not fit in memory and the loss depends on the batch size.

    Otherwise, no check is needed: trials have shown that a default size fits, and the first pass fails if a requested
    size does not.
    """
    if objective.mixes_examples:
        require_memory(objective, chosen.batch_size, config.precision)


def read_format(allocation: Allocation) -> BatchFormat:
    """Return the batch size and the memory format of an existing allocation."""
    return BatchFormat(allocation.attributes["batch_size"], allocation.attributes["channels_last"])


def open_allocation(
    run: Run,
    problem: Problem,
    objective: Objective,
    losses: ReferenceLosses,
    config: AllocateConfig,
    overwrite: bool,
) -> None:
    """Create the allocation, or check that the existing one can be continued.

    Raises UsageError if the existing allocation was made with different options or for another loss.
    """
    name = str(config.name)
    existing = run.allocation(name) if name in run.allocations and not overwrite else None
    remove_half_written(run.path / f"lca/{name}")
    if existing:  # all blocks of an allocation share one batch size and memory format
        stored = read_format(existing)
        config = replace(
            config,
            tolerance=existing.attributes["tolerance"] if config.tolerance is None else config.tolerance,
            batch_size=stored.batch_size if config.batch_size is None else config.batch_size,
            channels_last=stored.channels_last if config.channels_last is None else config.channels_last,
        )
    chosen = choose_format(objective, config)
    if not (existing and existing.complete):
        require_enough_memory(objective, config, chosen)
    if config.tolerance is None:
        config = replace(config, tolerance=choose_tolerance(run, problem, objective, chosen))
    attributes = _describe(run, problem, objective, config, chosen)
    if existing is None:
        requested = {"lca": config.keep == "lca", "class_lca": config.by_class, "gradient_sign": config.gradient_signs}
        arrays = [array for array, is_requested in requested.items() if is_requested]
        RunWriter(run).create_allocation(name, attributes | {"reference": asdict(losses)}, arrays)
        return
    if other := losses.compare(existing.attributes.get("reference", {}), run.n_iterations):
        raise UsageError(f"{run.path} has an allocation {name!r} for another loss: {other[max(other)]}", remedy=REPLACE)
    different = [key for key, value in attributes.items() if existing.attributes.get(key) != value]
    if different:
        differences = ", ".join(
            f"{key}: stored {existing.attributes.get(key)}, requested {attributes[key]}"
            for key in different
            if key != "fingerprint"
        )
        raise UsageError(
            f"{run.path} has an allocation {name!r} with different options ({differences})",
            remedy=REPLACE,
        )


def choose_tolerance(run: Run, problem: Problem, objective: Objective, chosen: BatchFormat) -> float:
    """Return the default tolerance: that of the paper for losses in nats, and a fraction of |L(θ_0)| for others."""
    if problem.unit == NATS:
        return TOLERANCE_NATS
    theta = torch.from_numpy(run.iterate(0))
    with FullGradient(chosen.apply(objective), chosen.batch_size) as gradient:
        loss = float(gradient.compute_mean(theta))
    return RELATIVE_TOLERANCE * abs(loss) if isfinite(loss) and loss else TOLERANCE_NATS


def compute_fingerprint(values: Mapping[str, Any]) -> str:
    """Return a short digest of JSON-like values. Equal values have equal digests."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _describe(
    run: Run, problem: Problem, objective: Objective, config: AllocateConfig, chosen: BatchFormat
) -> dict[str, Any]:
    """Return the attributes of the allocation, as stored with it."""
    iterations = config.range(run.n_iterations)
    attributes: dict[str, Any] = {
        "split": config.split,
        "unit": problem.unit,
        "dtype": run.weights.dtype.name,
        "rule": config.rule,
        "tolerance": config.tolerance,
        "part_tolerance": config.part_limit,
        "total_tolerance": config.total_tolerance,
        "max_intervals": config.max_intervals,
        "audit": config.audit,
        "seed": config.seed,
        "iterations": [iterations.start, iterations.stop, iterations.step],
        "examples": objective.n_examples,
        "examples_in_split": objective.n_in_split,
        "batch_size": chosen.batch_size,
        "channels_last": chosen.channels_last,
        "batchnorm": "batch statistics" if has_batchnorm(problem.model) else "none",
        "precision": config.precision,
        "compile": config.compile,
        "keep": config.keep,
        "keep_bits": config.keep_bits,
        "gradient_signs": config.gradient_signs,
        "classes": objective.classes,
        "other_loss": config.other_loss,
    }
    if problem.group_names and objective.classes:
        attributes["class_names"] = [problem.group_names.get(c, str(c)) for c in objective.classes]
    return {**attributes, "fingerprint": compute_fingerprint(attributes)}


def _require_complete(run: Run) -> None:
    if run.status != "complete":
        if "train" in run.attributes:
            raise LCAError(
                f"{run.path} is unfinished",
                expected=f"{run.attributes['train']['iterations'] + 1:,} iterates",
                found=f"{run.n_iterates:,}",
                remedy=("Resume it with ", Call("train", run.path, resume=True), "."),
            )
        raise LCAError(
            f"{run.path} is unfinished: it has {run.n_iterates:,} iterates, but its recorder did not exit normally",
            remedy="Record it again.",
        )
    if run.n_iterations == 0:
        raise LCAError(f"{run.path} has no iterations, so there is nothing to allocate.")
