"""Opening the allocation to continue, or a new one; and what has to hold before."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lca.allocation.batch_size import BatchFormat, choose_batch_format, require_memory
from lca.allocation.config import AllocateConfig
from lca.errors import Argument, Call, LCAError, UsageError
from lca.model.evaluation_mode import has_batchnorm
from lca.model.parameters import build_table, get_trainable, require_same_model
from lca.problem.batches import Batch
from lca.problem.objective import Objective
from lca.problem.problem import Problem, require_problem
from lca.problem.provenance import compute_digest, require_same_data, require_same_fixed
from lca.problem.streaming import StreamedDataset, count_examples
from lca.runtime.workers import Phase, Workers
from lca.store.allocation import Allocation
from lca.store.run import Run
from lca.store.run_writer import RunWriter


def is_finished(run: Run, config: AllocateConfig) -> bool:
    """Whether the allocation of this name exists and nothing is left to do for it."""
    return config.name in run.allocations and run.allocation(str(config.name)).complete


def require_same_problem(run: Run, problem: Problem, config: AllocateConfig) -> list[str]:
    """Raise unless the run is complete, and of this model and data; returns notes on what differs harmlessly."""
    require_problem(problem)
    _require_complete(run)
    tensors = get_trainable(problem.model)
    require_same_model(run, tensors, build_table(problem.model, tensors), f"the model of {problem.name}")
    require_same_data(run, problem, config.split)
    trained = run.attributes.get("problem", problem.name)
    other = [] if problem.name in ("custom", trained) else [trained]
    notes = [f"the run was trained on {name}, and this is the loss of {problem.name}" for name in other]
    return [*notes, *require_same_fixed(run, problem.model)]


def require_same_data_everywhere(team: Workers, data: Batch | StreamedDataset) -> None:
    """Raise if processes have different data, such as those of a dataset that gives each of them a part."""
    if team.size == 1:
        return
    own = [count_examples(data), compute_digest(data)]
    if team.first:
        team.publish("data", own)
        team.add(Phase.DATA)
    team.wait(Phase.DATA)
    first = team.read("data")
    if first != own:
        raise LCAError(
            f"the data of process {team.rank} of {team.size}",
            expected=f"the {first[0]:,} examples of the first process",
            found=f"{own[0]:,} examples",
            remedy="Each process has to have the whole split: switch off what divides a dataset by RANK.",
        )


def choose_format(objective: Objective, config: AllocateConfig) -> BatchFormat:
    """The batch size and memory format of the passes: as requested, otherwise the fastest."""
    return choose_batch_format(objective, batch_size=config.batch_size, channels_last=config.channels_last)


def require_enough_memory(objective: Objective, config: AllocateConfig, chosen: BatchFormat) -> None:
    """Raise LCAError if a batch does not fit; without BatchNorm, what is too large is never chosen."""
    if has_batchnorm(objective.model):
        require_memory(objective, chosen.batch_size, config.precision)


def read_format(allocation: Allocation) -> BatchFormat:
    """The batch size and memory format of an allocation."""
    return BatchFormat(allocation.attributes["batch_size"], allocation.attributes["channels_last"])


def open_allocation(run: Run, problem: Problem, objective: Objective, config: AllocateConfig, overwrite: bool) -> None:
    """Have the allocation to continue, or a new one; UsageError if the existing one has other options."""
    name = str(config.name)
    existing = run.allocation(name) if name in run.allocations and not overwrite else None
    if existing:  # chosen once, so that every part of the allocation has the same
        stored = read_format(existing)
        config = replace(
            config,
            batch_size=stored.batch_size if config.batch_size is None else config.batch_size,
            channels_last=stored.channels_last if config.channels_last is None else config.channels_last,
        )
    chosen = choose_format(objective, config)
    if not (existing and existing.complete):
        require_enough_memory(objective, config, chosen)
    attributes = _describe(run, problem, objective, config, chosen)
    if existing is None:
        requested = {"lca": config.keep == "lca", "class_lca": config.by_class, "gradient_sign": config.gradient_signs}
        arrays = [array for array, is_requested in requested.items() if is_requested]
        RunWriter(run).create_allocation(name, attributes, arrays)
        return
    different = [key for key, value in attributes.items() if existing.attributes.get(key) != value]
    if different:
        differences = ", ".join(
            f"{key}: stored {existing.attributes.get(key)}, requested {attributes[key]}"
            for key in different
            if key != "fingerprint"
        )
        raise UsageError(
            f"{run.path} has an allocation {name!r} with other options ({differences})",
            remedy=(
                "Pass the same options, another ",
                Argument("name"),
                ", or ",
                Argument("overwrite", True),
                " to replace it.",
            ),
        )


def compute_fingerprint(values: Mapping[str, Any]) -> str:
    """A short digest of JSON-like values, equal for equal ones."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _describe(
    run: Run, problem: Problem, objective: Objective, config: AllocateConfig, chosen: BatchFormat
) -> dict[str, Any]:
    """The attributes of an allocation."""
    iterations = config.range(run.n_iterations)
    attributes: dict[str, Any] = {
        "split": config.split,
        "rule": config.rule,
        "tolerance": config.tolerance,
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
            f"{run.path} is unfinished: it holds {run.n_iterates:,} iterates, and its recorder did not exit normally",
            remedy="Record it again.",
        )
    if run.n_iterations == 0:
        raise LCAError(f"{run.path} holds no iteration, so there is nothing to allocate.")
