"""Replay a run and allocate every iteration: check what is asked for, open or continue the allocation, sum it up."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from lca.allocation.auditing import audit_sample
from lca.allocation.batch_size import BatchFormat
from lca.allocation.block_pass import BlockPass
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.allocation.opening import (
    choose_format,
    is_finished,
    open_allocation,
    read_format,
    require_enough_memory,
    require_same_data_everywhere,
    require_same_problem,
)
from lca.allocation.preflight import Preflight, preflight
from lca.allocation.refinement import refine_total
from lca.allocation.task import Task
from lca.allocation.teamwork import CONTINUE, Teamwork
from lca.allocation.trajectory import Trajectory
from lca.config import resolve
from lca.errors import LCAError, storage_errors
from lca.problem.objective import Objective, prepare
from lca.problem.problem import Problem
from lca.problem.sampling import estimate_standard_error
from lca.runtime.device import resolve_device
from lca.runtime.progress import make_progress_bar
from lca.runtime.signals import catch_stop_signals
from lca.runtime.workers import Phase, Workers, join_workers, share_device
from lca.store import consolidated
from lca.store.run import Run, open_run
from lca.store.run_writer import RunWriter
from lca.store.summary import Summary, is_counted, summarize


def allocate(
    path: Path | str,
    problem: Problem,
    config: AllocateConfig | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
    on_preflight: Callable[[Preflight], None] | None = None,
    **options: Any,
) -> Summary:
    """Allocate the loss changes of a finished run to its parameters, and write the arrays of `lca/NAME`.

    An interrupted allocation is continued, a finished one only summed up. torchrun's processes share the work, with the
    same result. On SIGINT or SIGTERM it stops after the iteration and keeps what is done.

    Args:
        path: The run store, a path or a URL.
        problem: The problem that the run was trained on; its model is used and left as it was.
        config: How to allocate.
        overwrite: Replace an existing allocation of the same name.
        progress: Show a progress bar on stderr.
        on_preflight: Called with the result of the preflight, which always comes first.
        **options: Fields of AllocateConfig, in place of those of `config`.

    Returns:
        The certificate of the allocation.

    Raises:
        UsageError: If the options are invalid, or an existing allocation has other options.
        LCAError: If the problem is not the one of the run, or its loss is not a function of the parameters.
        Interrupted: If it was stopped by a signal.

    Example:
        >>> print(lca.allocate("run.zarr", problem, by_class=True))
    """
    config = resolve(AllocateConfig, config, options)
    run = open_run(path, "r+")
    iterations = config.range(run.n_iterations)
    notes = require_same_problem(run, problem, config)
    objective = _prepare(problem, config)
    with storage_errors(path, ("What is allocated is kept. Fix this. ", *CONTINUE)), ExitStack() as stack:
        workers = stack.enter_context(join_workers())
        if workers.first:
            overwrite = overwrite and not workers.restarted
            if overwrite or not is_finished(run, config):
                stack.enter_context(RunWriter(run).lock(str(config.name)))
        _open_together(workers, run, problem, objective, config, overwrite)
        allocation = run.allocation(str(config.name))
        if not allocation.complete:
            with (
                _make_gradient(objective, config, read_format(allocation)) as gradient,
                Trajectory(run, gradient.device) as theta,
            ):
                gradient.notes += notes
                _check_first(run, gradient, theta, config, iterations, workers, on_preflight)
                stop = stack.enter_context(catch_stop_signals())
                bar = make_progress_bar(len(iterations), "allocate", shown=progress and workers.first)
                team = Teamwork(workers, stack.enter_context(bar), stop)
                _allocate(Task(run, allocation, gradient, theta, config, team))
        return summarize(run.allocation(allocation.name))


def check(path: Path | str, problem: Problem, config: AllocateConfig | None = None, **options: Any) -> Preflight:
    """Make the preflight of an allocation, without allocating: is the loss a function, and what will it cost?

    Args:
        path: The run store, a path or a URL.
        problem: The problem that the run was trained on.
        config: How the allocation would be made.
        **options: Fields of AllocateConfig, in place of those of `config`.

    Returns:
        What was found, and a forecast of time, disk and memory.

    Raises:
        LCAError: If the problem is not the one of the run, or its loss is not a function of the parameters.
    """
    config = resolve(AllocateConfig, config, options)
    run = open_run(path)
    iterations = config.range(run.n_iterations)
    notes = require_same_problem(run, problem, config)
    objective = _prepare(problem, config)
    chosen = choose_format(objective, config)
    require_enough_memory(objective, config, chosen)
    with _make_gradient(objective, config, chosen) as gradient, Trajectory(run, gradient.device) as theta:
        gradient.notes += notes
        return preflight(run, gradient, theta(iterations[0]), config, iterations)


def _open_together(
    workers: Workers, run: Run, problem: Problem, objective: Objective, config: AllocateConfig, overwrite: bool
) -> None:
    """The first process opens the allocation, and the others wait."""
    if workers.first:
        open_allocation(run, problem, objective, config, overwrite)
        if is_finished(run, config):
            consolidated.ensure(run.path)
        workers.add(Phase.OPENED)
    workers.wait(Phase.OPENED)
    if config.split not in run.attributes.get("splits", {}):  # otherwise each has compared it with the record
        require_same_data_everywhere(workers, problem.split(config.split))


def _prepare(problem: Problem, config: AllocateConfig) -> Objective:
    """The model and the examples of L on the device."""
    device = share_device(resolve_device(config.device))
    problem.model.to(device)
    options: dict[str, Any] = {"n_examples": config.examples, "seed": config.seed, "by_class": config.by_class}
    return prepare(problem, config.split, device, **options)


def _make_gradient(objective: Objective, config: AllocateConfig, chosen: BatchFormat) -> FullGradient:
    objective = chosen.apply(objective)
    return FullGradient(objective, chosen.batch_size, precision=config.precision, compiled=config.compile)


def _check_first(
    run: Run,
    gradient: FullGradient,
    theta: Trajectory,
    config: AllocateConfig,
    iterations: range,
    workers: Workers,
    on_preflight: Callable[[Preflight], None] | None,
) -> None:
    """The first process makes the preflight, and the others wait."""
    if workers.first:
        checked = preflight(run, gradient, theta(iterations[0]), config, iterations)
        if on_preflight:
            on_preflight(checked)
        workers.add(Phase.CHECKED)
    workers.wait(Phase.CHECKED)


def _allocate(task: Task) -> None:
    """Allocate what is left, refine the total, audit a sample, and declare the allocation complete."""
    BlockPass(task).run()
    refine_total(task)
    audit_sample(task)
    if not task.team.leads:
        task.team.wait(Phase.FINISHED)
        return
    if task.config.examples:
        task.writer.note("standard_error", _estimate_standard_errors(task))
    missing = np.flatnonzero(task.allocation.read("blocks") == 0)
    if len(missing):
        raise LCAError(
            f"{len(missing)} blocks of {task.allocation.path} were not allocated, block {missing[0]} the first of them",
            remedy=CONTINUE,
        )
    task.writer.finish()
    task.team.workers.add(Phase.FINISHED)


def _estimate_standard_errors(task: Task) -> dict[str, float]:
    """Of the loss over the subset at the first and the last allocated iterate, and of the change between them."""
    iterations = np.flatnonzero(is_counted(task.allocation.read("status")))
    if not len(iterations):
        return {}
    gradient, objective = task.gradient, task.gradient.objective
    start, end = (
        gradient.compute_by_example(task.theta(int(t))).double().cpu().numpy()
        for t in (iterations[0], iterations[-1] + 1)
    )
    weights = gradient.compute_weights().double().cpu().numpy()
    losses = {"start": start, "end": end, "change": end - start}
    return {
        what: estimate_standard_error(values, weights, objective.labels, objective.n_of_class)
        for what, values in losses.items()
    }
