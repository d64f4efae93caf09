"""Replay a run and allocate every iteration: what is asked for is checked, opened or gone on with, and summed up."""

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lca import consolidated
from lca.allocator import GO_ON, Allocator
from lca.arrays import Allocation
from lca.batch import Batch
from lca.config import AllocateConfig
from lca.device import resolve_device
from lca.errors import LCAError, UsageError, storage_errors
from lca.gradient import FullGradient, has_batchnorm
from lca.parameters import ParameterTable, trainable
from lca.preflight import Preflight, preflight
from lca.probe import Layout, fastest_layout, require_memory
from lca.problem import Problem
from lca.progress import bar
from lca.provenance import digest, require_same_data, require_same_fixed
from lca.replay import Trajectory
from lca.signals import stop_signals
from lca.split import Split, prepare, standard_error
from lca.store import Run, fingerprint, open_run
from lca.stream import Stream, count
from lca.summary import Summary, counted, read, summarize
from lca.workers import Workers, share_device, workers


def allocate(
    path: Path | str,
    problem: Problem,
    config: AllocateConfig | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
    report: Callable[[Preflight], None] | None = None,
) -> Summary:
    """Allocate the loss changes of a finished run to its parameters, and write the arrays of `lca/NAME`.

    problem: the one that the run was trained on; its model is used and left as it was, its weights do not matter.
    What an interrupted call left is gone on with; a finished allocation is only summed up; both unless overwrite.
    Under torchrun its processes share the work, and the result is the same.
    report: called with the preflight, which is always made first and raises LCAError where L is not what it has to be.
    On SIGINT or SIGTERM it stops after the iteration, keeps what is done, and raises Interrupted.
    """
    config = config or AllocateConfig()
    run = open_run(path, "r+")
    iterations = _require_same_problem(run, problem, config)
    notes = [*_other_name(run, problem), *require_same_fixed(run, problem.model)]
    split = _prepare(problem, config)
    with (
        storage_errors(path, f"What is allocated is kept: mend that. {GO_ON}"),
        ExitStack() as stack,
    ):
        team = stack.enter_context(workers())
        if team.first:
            overwrite = overwrite and not team.restarted
            if overwrite or not is_finished(run, config):
                stack.enter_context(run.lock(str(config.name)))
            _open_allocation(run, problem, split, config, overwrite)
            if is_finished(run, config):
                consolidated.ensure(run.path)
            team.count("open")
        team.wait("open")
        if config.split not in run.attributes.get("splits", {}):  # else each has held it against what was recorded
            _require_one_data(team, problem.split(config.split))
        allocation = run.allocation(str(config.name))
        if not allocation.complete:
            with _full_gradient(problem, split, config, Layout(*_layout(allocation))) as gradient:
                theta = stack.enter_context(Trajectory(run, gradient.device))
                gradient.notes += notes
                if team.first:
                    checked = preflight(run, gradient, theta(iterations[0]), config, iterations)
                    if report:
                        report(checked)
                    team.count("checked")
                team.wait("checked")
                stop = stack.enter_context(stop_signals())
                shown = stack.enter_context(bar(len(iterations), "allocate", shown=progress and team.first))
                allocator = Allocator(run, allocation, gradient, theta, config, team, shown, stop)
                allocator.allocate_blocks()
                allocator.refine_total()
                allocator.audit()
                if team.first and config.examples:
                    allocation.note("standard_error", _standard_errors(allocation, gradient, theta, split))
                allocator.finish()
        return summarize(run.allocation(allocation.name))


def is_finished(run: Run, config: AllocateConfig) -> bool:
    """Whether there is an allocation of this name that nothing is left to do for."""
    return config.name in run.allocations and run.allocation(config.name).complete


def check(path: Path | str, problem: Problem, config: AllocateConfig | None = None) -> Preflight:
    """The preflight of an allocation, without allocating."""
    config = config or AllocateConfig()
    run = open_run(path)
    iterations = _require_same_problem(run, problem, config)
    notes = [*_other_name(run, problem), *require_same_fixed(run, problem.model)]
    split = _prepare(problem, config)
    layout = _fastest_layout(problem, split, config)
    _require_memory(problem, split, config, layout)
    with (
        _full_gradient(problem, split, config, layout) as gradient,
        Trajectory(run, gradient.device) as theta,
    ):
        gradient.notes += notes
        return preflight(run, gradient, theta(iterations[0]), config, iterations)


def _prepare(problem: Problem, config: AllocateConfig) -> Split:
    """The model and the examples of L on the device."""
    device = share_device(resolve_device(config.device))
    problem.model.to(device)
    return prepare(
        problem, config.split, device, n_examples=config.examples, seed=config.seed, by_class=config.by_class
    )


def _full_gradient(problem: Problem, split: Split, config: AllocateConfig, layout: Layout) -> FullGradient:
    return FullGradient(
        problem.model,
        problem.losses,
        layout.of(split.data),
        layout.batch_size,
        scale=split.scale,
        weigh=split.weigh,
        groups=split.groups,
        n_classes=len(split.classes),
        precision=config.precision,
        compiled=config.compile,
    )


def _fastest_layout(problem: Problem, split: Split, config: AllocateConfig) -> Layout:
    return fastest_layout(
        problem.model,
        problem.losses,
        split.data,
        split.scale,
        split.weigh,
        batch_size=config.batch_size,
        channels_last=config.channels_last,
    )


def _require_memory(problem: Problem, split: Split, config: AllocateConfig, layout: Layout) -> None:
    """Before anything is made; without BatchNorm what is too large has been left out when the layout was chosen."""
    if has_batchnorm(problem.model):
        require_memory(
            problem.model, problem.losses, split.data, split.scale, split.weigh, layout.batch_size, config.precision
        )


def _layout(allocation: Allocation) -> tuple[int, bool]:
    return allocation.attributes["batch_size"], allocation.attributes["channels_last"]


def _open_allocation(run: Run, problem: Problem, split: Split, config: AllocateConfig, overwrite: bool) -> None:
    """Have the allocation to go on with, or a new one; an error where one with other options is there."""
    name = str(config.name)
    there = run.allocation(name) if name in run.allocations and not overwrite else None
    if there:  # chosen once, so that every part of the allocation has the same
        size, channels_last = _layout(there)
        config = replace(
            config,
            batch_size=size if config.batch_size is None else config.batch_size,
            channels_last=channels_last if config.channels_last is None else config.channels_last,
        )
    layout = _fastest_layout(problem, split, config)
    if not (there and there.complete):
        _require_memory(problem, split, config, layout)
    chosen = config.range(run.n_iterations)
    attributes: dict[str, Any] = {
        "split": config.split,
        "rule": config.rule,
        "tolerance": config.tolerance,
        "total_tolerance": config.total_tolerance,
        "max_intervals": config.max_intervals,
        "audit": config.audit,
        "seed": config.seed,
        "iterations": [chosen.start, chosen.stop, chosen.step],
        "examples": split.n_examples,
        "examples_in_split": split.n_total,
        "batch_size": layout.batch_size,
        "channels_last": layout.channels_last,
        "batchnorm": "batch statistics" if has_batchnorm(problem.model) else "none",
        "precision": config.precision,
        "compile": config.compile,
        "keep": config.keep,
        "keep_bits": config.keep_bits,
        "gradient_signs": config.gradient_signs,
        "classes": split.classes,
    }
    if problem.group_names and split.classes:
        attributes["class_names"] = [problem.group_names.get(c, str(c)) for c in split.classes]
    attributes["fingerprint"] = fingerprint(attributes)
    if there is None:
        wanted = {"lca": config.keep == "lca", "class_lca": config.by_class, "gradient_sign": config.gradient_signs}
        run.create_allocation(name, attributes, [array for array, want in wanted.items() if want])
        return
    different = [key for key, value in attributes.items() if there.attributes.get(key) != value]
    if different:
        told = ", ".join(
            f"{key} {there.attributes.get(key)} there and {attributes[key]} here"
            for key in different
            if key != "fingerprint"
        )
        raise UsageError(
            f"{run.path} has an allocation {name!r} with other options: {told}. "
            "Give the same, another --name, or replace it with --overwrite."
        )


def _standard_errors(
    allocation: Allocation, gradient: FullGradient, theta: Trajectory, split: Split
) -> dict[str, float]:
    """Of the loss over the subset at the first and the last iterate that are allocated, and of the change between."""
    iterations = np.flatnonzero(counted(read(allocation, "status")))
    if not len(iterations):
        return {}
    start, end = (
        gradient.of_examples(theta(int(t))).double().cpu().numpy() for t in (iterations[0], iterations[-1] + 1)
    )
    weights = gradient.example_weights().double().cpu().numpy()
    return {
        "start": standard_error(start, weights, split),
        "end": standard_error(end, weights, split),
        "change": standard_error(end - start, weights, split),
    }


def _require_same_problem(run: Run, problem: Problem, config: AllocateConfig) -> range:
    """The iterations asked for; an error unless the run is complete, and of this model and data."""
    _require_complete(run)
    tensors = trainable(problem.model)
    run.require_same_model(tensors, ParameterTable.of(problem.model, tensors), f"the model of {problem.name}")
    require_same_data(run, problem, config.split)
    return config.range(run.n_iterations)


def _other_name(run: Run, problem: Problem) -> list[str]:
    """A note where a run was trained on a problem of another name, whose model has the same shapes."""
    trained = run.attributes.get("problem", problem.name)
    if problem.name in ("custom", trained):
        return []
    return [f"the run was trained on {trained}, and this is the loss of {problem.name}"]


def _require_one_data(team: Workers, data: "Batch | Stream") -> None:
    """Raise where processes have other data, such as those of a data set that gives each of them a part."""
    if team.size == 1:
        return
    own = [count(data), digest(data)]
    if team.first:
        team.tell("data", own)
        team.count("data")
    team.wait("data")
    theirs = team.told("data")
    if theirs != own:
        raise LCAError(
            f"process {team.rank} of {team.size} has {own[0]:,} examples, not the {theirs[0]:,} of the first. Each has "
            "to have the whole split: switch off what shares a data set out by RANK."
        )


def _require_complete(run: Run) -> None:
    if run.status != "complete":
        held = f"{run.path} is unfinished: it holds {run.n_iterates:,}"
        if "train" in run.attributes:
            wanted, command = run.attributes["train"]["iterations"] + 1, run.attributes.get("command")
            how = f"`{_resuming(command)}`" if command else "lca.train(…, resume=True)"
            raise LCAError(f"{held} of {wanted:,} iterates; resume it with {how}.")
        raise LCAError(f"{held} iterates, and its recorder was not left in good order. Record it again.")
    if run.n_iterations == 0:
        raise LCAError(f"{run.path} holds no iteration: there is nothing to allocate.")


def _resuming(command: str) -> str:
    """The command line, with --resume."""
    words = [word for word in shlex.split(command) if word not in ("--resume", "--overwrite")]
    return shlex.join([*words, "--resume"])
