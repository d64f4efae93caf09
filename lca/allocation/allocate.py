"""The entry points `allocate`, which allocates the loss changes of a run, and `check`, which forecasts the cost."""

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
    choose_tolerance,
    is_finished,
    open_allocation,
    read_format,
    require_enough_memory,
    require_same_data_everywhere,
    require_same_first_loss,
    require_same_problem,
)
from lca.allocation.prediction import learn_factors
from lca.allocation.preflight import Preflight, preflight
from lca.allocation.refinement import refine_total
from lca.allocation.steps import Steps
from lca.allocation.task import Task
from lca.allocation.teamwork import CONTINUE, Teamwork
from lca.allocation.trajectory import Trajectory
from lca.config import resolve
from lca.errors import LCAError, Remedy, storage_errors
from lca.model.evaluation_mode import has_batchnorm
from lca.problem.objective import Objective, prepare, require_supported
from lca.problem.problem import Problem
from lca.problem.reference import ReferenceLosses, at_iterate, measure_batch_dependence, require_same_loss
from lca.problem.sampling import estimate_standard_error
from lca.runtime.device import resolve_device
from lca.runtime.progress import make_progress_bar
from lca.runtime.signals import catch_stop_signals
from lca.runtime.workers import Phase, Workers, join_workers, share_device
from lca.store import consolidated
from lca.store.allocation import Allocation
from lca.store.allocation_writer import AllocationWriter
from lca.store.run import Run, open_run
from lca.store.run_writer import RunWriter
from lca.store.summary import Summary, is_counted, summarize
from lca.text import pluralize

DISK_REMEDY: Remedy = ("Finished blocks of iterations are kept. Free disk space or restore write access. ", *CONTINUE)


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
    """Allocate the loss change of every iteration of a run to its parameters and store the result in the run.

    An interrupted allocation is continued, and a complete one is only summarized. Processes started by ``torchrun``
    share the work. SIGINT and SIGTERM stop the function after the current iteration, and finished iterations are kept.

    Args:
        path: Path or URL of the run. Its training must be complete.
        problem: Problem that the run was trained on. Its model is moved to the device but otherwise left unchanged.
        config: Options of the allocation. Defaults to ``AllocateConfig()``.
        overwrite: Whether to replace an existing allocation of the same name.
        progress: Whether to show a progress bar on stderr.
        on_preflight: Function that the first process calls with the result of the preflight, before it allocates.
        **options: Fields of `AllocateConfig`; they take precedence over `config`.

    Returns:
        The certificate of the allocation: losses, residuals and the audited error.

    Raises:
        UsageError: If an option is invalid, or an allocation of this name has different options or another loss.
        LCAError: If the problem does not match the run, its loss is not a deterministic function of the parameters, or
            its gradient is not the derivative of its loss.
        Interrupted: If a signal stopped the allocation.

    Example:
        >>> print(lca.allocate("run.zarr", problem, by_class=True))
    """
    config = resolve(AllocateConfig, config, options)
    run = open_run(path, "r+")
    notes = require_same_problem(run, problem, config)
    objective = prepare_objective(problem, config, _measure_dependence(run, problem, config.split))
    with storage_errors(path, DISK_REMEDY), ExitStack() as stack:
        workers = stack.enter_context(join_workers())
        if workers.first:
            overwrite = overwrite and not workers.restarted
            if overwrite or not is_finished(run, config):
                stack.enter_context(RunWriter(run).lock(str(config.name)))
        remarks = _open_together(workers, run, problem, objective, config, overwrite)
        allocation = run.allocation(str(config.name))
        if not allocation.complete:
            with (
                make_gradient(objective, config, read_format(allocation)) as gradient,
                Trajectory(run, gradient.device) as theta,
            ):
                gradient.notes += notes
                allocation = _check_first(allocation, run, gradient, theta, config, workers, remarks, on_preflight)
                stop = stack.enter_context(catch_stop_signals())
                bar = make_progress_bar(len(allocation.iterations), "allocate", shown=progress and workers.first)
                team = Teamwork(workers, stack.enter_context(bar), stop)
                _allocate(Task(run, allocation, gradient, theta, config, team))
        return summarize(run.allocation(allocation.name))


def check(path: Path | str, problem: Problem, config: AllocateConfig | None = None, **options: Any) -> Preflight:
    """Check a problem against a run and forecast the cost of an allocation, without writing anything.

    Args:
        path: Path or URL of the run.
        problem: Problem that the run was trained on. Its model is moved to the device but otherwise left unchanged.
        config: Options that the allocation would use. Defaults to ``AllocateConfig()``.
        **options: Fields of `AllocateConfig`; they take precedence over `config`.

    Returns:
        The findings about the model and its loss, and a forecast of time, disk space and memory.

    Raises:
        UsageError: If an option is invalid.
        LCAError: If the problem does not match the run, its loss is not a deterministic function of the parameters, or
            its gradient is not the derivative of its loss.

    Example:
        >>> print(lca.check("run.zarr", problem))
    """
    config = resolve(AllocateConfig, config, options)
    run = open_run(path)
    iterations = config.range(run.n_iterations)
    notes = require_same_problem(run, problem, config)
    objective = prepare_objective(problem, config, _measure_dependence(run, problem, config.split))
    remarks = require_same_loss(run, problem, ReferenceLosses.compute(run, problem), config.other_loss)
    chosen = choose_format(objective, config)
    require_enough_memory(objective, config, chosen)
    tolerance = config.tolerance or choose_tolerance(run, problem, objective, chosen)
    with make_gradient(objective, config, chosen) as gradient, Trajectory(run, gradient.device) as theta:
        gradient.notes += notes

        def sample() -> dict[int, int]:
            chosen = _choose_sample(iterations)
            steps = Steps(gradient, theta, config, tolerance)
            return {t: steps.integrate(steps.take(t)).intervals for t in chosen if theta.is_finite(t + 1)}

        return preflight(run, gradient, theta(iterations[0]), config, iterations, remarks, sample)


def _choose_sample(iterations: range) -> list[int]:
    """Return three iterations spread over the range, or all if there are fewer."""
    n = len(iterations)
    return sorted({iterations[n * i // 6] for i in (0, 2, 5)})


def _open_together(
    workers: Workers, run: Run, problem: Problem, objective: Objective, config: AllocateConfig, overwrite: bool
) -> list[str]:
    """Let the first process open or create the allocation while the others wait.

    Returns remarks on differences from the training. The list is empty in all processes but the first.
    """
    remarks: list[str] = []
    if workers.first:
        losses = ReferenceLosses.compute(run, problem)
        remarks = require_same_loss(run, problem, losses, config.other_loss)
        open_allocation(run, problem, objective, losses, config, overwrite)
        if is_finished(run, config):
            consolidated.ensure(run.path)
        workers.add(Phase.OPENED)
    workers.wait(Phase.OPENED)
    # Each process has already compared its data with the run if the run describes this split.
    if config.split not in run.attributes.get("splits", {}):
        require_same_data_everywhere(workers, problem.split(config.split), config.split)
    return remarks


def prepare_objective(problem: Problem, config: AllocateConfig, batch_dependence: float) -> Objective:
    """Move the model to the device, and the examples as well if they fit there. Return the objective L."""
    device = share_device(resolve_device(config.device))
    require_supported(problem, config.split, device)
    problem.model.to(device)
    return prepare(
        problem,
        config.split,
        device,
        n_examples=config.examples,
        seed=config.seed,
        by_class=config.by_class,
        batch_dependence=batch_dependence,
    )


def _measure_dependence(run: Run, problem: Problem, split: str) -> float:
    """Return how much an example's loss depends on the rest of its batch: the larger value at θ_0 and θ_T.

    Returns 0 without a measurement if the model contains BatchNorm.
    """
    changes = [0.0]
    for t in () if has_batchnorm(problem.model) else (0, run.n_iterations):
        with at_iterate(run, t, problem):
            changes.append(measure_batch_dependence(problem, split))
    return float(np.nanmax(changes))


def make_gradient(objective: Objective, config: AllocateConfig, chosen: BatchFormat) -> FullGradient:
    objective = chosen.apply(objective)
    return FullGradient(objective, chosen.batch_size, precision=config.precision, compiled=config.compile)


def _check_first(
    allocation: Allocation,
    run: Run,
    gradient: FullGradient,
    theta: Trajectory,
    config: AllocateConfig,
    workers: Workers,
    remarks: list[str],
    on_preflight: Callable[[Preflight], None] | None,
) -> Allocation:
    """Let the first process run the preflight, and learn the factors of the adaptive rule, while the others wait.

    Returns the allocation with its new attributes.
    """
    if workers.first:
        iterations = allocation.iterations
        checked = preflight(run, gradient, theta(iterations[0]), config, iterations, remarks)
        if on_preflight:
            on_preflight(checked)
        require_same_first_loss(allocation, iterations[0], checked.loss)
        writer = AllocationWriter(allocation)
        if checked.remarks:
            writer.note("remarks", checked.remarks)
        if config.rule == "adaptive" and "factors" not in allocation.attributes:
            steps = Steps(gradient, theta, config, allocation.attributes["tolerance"])
            writer.note("factors", learn_factors(steps, iterations, allocation.blocks_of_run))
        workers.add(Phase.CHECKED)
    workers.wait(Phase.CHECKED)
    return run.allocation(allocation.name)


def _allocate(task: Task) -> None:
    """Allocate the missing blocks, reduce the cumulative residual, audit a sample and mark the allocation complete."""
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
            f"{task.allocation.path} has {pluralize(len(missing), 'unfinished block')} (first: block {missing[0]})",
            remedy=CONTINUE,
        )
    task.writer.finish()
    task.team.workers.add(Phase.FINISHED)


def _estimate_standard_errors(task: Task) -> dict[str, float]:
    """Return the standard errors of losses over a subset of examples, as estimates of those over the whole split.

    They are in units of the loss: "start" is for the loss at the first allocated iterate, "end" for the loss at the
    last one, and "change" for the difference. Returns {} if no iteration is finite.
    """
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
        name: estimate_standard_error(values, weights, objective.labels, objective.n_of_class)
        for name, values in losses.items()
    }
