"""Replay a run and allocate every iteration: blocks are planned, integrated and written; then the total is refined."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lca.audit import Audit, compare, draw_iterations
from lca.device import resolve_device
from lca.errors import LCAError, UsageError
from lca.gradient import FullGradient, fastest_batch_size, has_batchnorm
from lca.integrate import RULES, Evaluation, Integral, Status, integrate_iteration
from lca.parameters import ParameterTable, norm_by_tensor, sum_by_tensor
from lca.preflight import Preflight, preflight
from lca.problem import Problem
from lca.progress import bar
from lca.provenance import require_same_data
from lca.store import Allocation, Run, fingerprint, open_run
from lca.summary import Summary, read, summarize

BATCHNORM_BATCH = 5_000  # the paper's
FLOAT32_EPS = float(torch.finfo(torch.float32).eps)


@dataclass(frozen=True)
class AllocateConfig:
    """How to allocate."""

    split: str = "train"  # whose loss
    name: str | None = None  # of the allocation in the store; the split's if None
    tolerance: float = 1e-3  # of the residual of an iteration, in the loss's unit; the paper's
    total_tolerance: float = 1e-2  # of the cumulative residual, as a part of |L_T − L_0|; the paper's
    max_intervals: int = 64  # where halving the step stops
    rule: str = "simpson"  # or "trapezoid", refined by Simpson, or "first-order", the cheapest and not refined
    audit: float = 0.01  # part of the iterations, at least five, on which the error of the parts is measured; 0: none
    seed: int = 0  # of the draw of the audited iterations
    # Examples in a pass at once. None: the fastest, found by a probe; with BatchNorm, where it is a part of what the
    # loss is, the paper's 5,000.
    batch_size: int | None = None
    device: str = "auto"  # CUDA where there is one

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", self.split)
        for name in ("tolerance", "total_tolerance"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}; a positive number was wanted.")
        if self.max_intervals < 2 or self.max_intervals & (self.max_intervals - 1) or self.max_intervals > 2**14:
            raise UsageError(f"max_intervals is {self.max_intervals}; a power of two from 2 to 16384 was wanted.")
        if self.rule not in RULES:
            raise UsageError(f"unknown rule {self.rule!r}; the known ones are {', '.join(RULES)}.")
        if not 0 <= self.audit <= 1:
            raise UsageError(f"audit is {self.audit}; a part of the iterations from 0 to 1 was wanted.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch_size is {self.batch_size}; at least 1 was wanted.")


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
    report: called with the preflight, which is always made first and raises LCAError where L is not what it has to be.
    """
    config = config or AllocateConfig()
    run = open_run(path, "r+")
    _require_same_problem(run, problem, config.split)
    problem = _on_device(problem, config)
    allocation = _open_allocation(run, problem, config, overwrite)
    if not allocation.complete:
        with _full_gradient(problem, config, allocation.attributes["batch_size"]) as gradient:
            allocator = Allocator(run, allocation, gradient, config)
            checked = preflight(run, gradient, allocator.theta(0), config.rule)
            if report:
                report(checked)
            with bar(run.n_iterations, "allocate", shown=progress) as shown:
                allocator.allocate_blocks(shown)
                allocator.refine_total(shown)
                allocator.audit(shown)
        allocation.finish()
    return summarize(allocation)


def check(path: Path | str, problem: Problem, config: AllocateConfig | None = None) -> Preflight:
    """The preflight of an allocation, without allocating."""
    config = config or AllocateConfig()
    run = open_run(path)
    _require_same_problem(run, problem, config.split)
    problem = _on_device(problem, config)
    with _full_gradient(problem, config, config.batch_size or _choose_batch_size(problem, config)) as gradient:
        return preflight(run, gradient, Trajectory(run, gradient.theta.device)(0), config.rule)


class Trajectory:
    """theta(t) -> θ_t (K,) on the device, reading one block of the store at a time."""

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, self.device = run, device
        self.block = -1
        self.rows = np.empty((0, 0), np.float32)

    def __call__(self, t: int) -> Tensor:
        block, row = divmod(t, self.run.block)
        if block != self.block:
            self.rows, self.block = np.ascontiguousarray(self.run.iterates(block).T), block
        return torch.from_numpy(self.rows[row]).to(self.device, copy=True)


class Allocator:
    """The iterations of one run, integrated with one gradient and written into one allocation."""

    def __init__(self, run: Run, allocation: Allocation, gradient: FullGradient, config: AllocateConfig) -> None:
        self.run, self.allocation, self.gradient, self.config = run, allocation, gradient, config
        self.theta = Trajectory(run, gradient.theta.device)
        self.lengths = torch.tensor(run.parameters.sizes, device=gradient.theta.device)

    def allocate_blocks(self, shown: "tqdm[Any]") -> None:
        """Allocate and write every block that is not yet done, in order."""
        end: tuple[int, Evaluation] | None = None
        for block, span in enumerate(self.allocation.iteration_blocks):
            if self.allocation.blocks[block]:
                shown.update(span.stop - span.start)
                continue
            start = end[1] if end and end[0] == span.start else self.gradient(self.theta(span.start))
            end = (span.stop, self._allocate_block(block, span, start, shown))

    def refine_total(self, shown: "tqdm[Any]") -> None:
        """Integrate the worst iteration more finely until the cumulative residual is under its bound."""
        arrays = {name: read(self.allocation, name) for name in ("loss", "residual", "intervals", "status")}
        n_refined = 0
        while (t := worst_iteration(**arrays, config=self.config)) is not None:
            theta0, theta1 = self.theta(t), self.theta(t + 1)
            integral = self._integrate(theta0, theta1, self.gradient(theta0), 2 * int(arrays["intervals"][t]))
            values = self._describe(integral, theta1 - theta0)
            self.allocation.write_iteration(t, values)
            for name in ("residual", "intervals", "status"):
                arrays[name][t] = values[name]
            n_refined += 1
            shown.set_postfix_str(f"{n_refined} refined for the total", refresh=False)
            shown.update(0)

    def audit(self, shown: "tqdm[Any]") -> None:
        """Integrate a sample of the iterations with twice and four times the subintervals, and keep what differs."""
        intervals, status = read(self.allocation, "intervals"), read(self.allocation, "status")
        finite = np.flatnonzero((status == Status.CONVERGED) | (status == Status.AT_LIMIT)).tolist()
        if not self.config.audit or not finite:
            return
        figures = []
        iterations = draw_iterations(finite, self.config.audit, self.config.seed)
        for i, t in enumerate(iterations, start=1):
            shown.set_postfix_str(f"audit {i} of {len(iterations)}", refresh=False)
            shown.update(0)
            theta0, theta1 = self.theta(t), self.theta(t + 1)
            n, start = int(intervals[t]), self.gradient(theta0)
            half_way, fine = (self._reference(theta0, theta1, start, m) for m in (2 * n, 4 * n))
            figures.append(compare(np.asarray(self.allocation.lca[:, t], np.float64), half_way, fine))
        columns = {name: [row[name] for row in figures] for name in figures[0]}
        self.allocation.note("audit_result", Audit(iterations=iterations, **columns).to_json())

    def _reference(self, theta0: Tensor, theta1: Tensor, start: Evaluation, n: int) -> NDArray[np.float64]:
        """A (K,) by composite Simpson with n subintervals, whatever the rule of the allocation."""
        reference = integrate_iteration(
            self.gradient, theta0, theta1, start, tolerance=float("inf"), min_intervals=n, max_intervals=n
        )
        return reference.allocation.cpu().numpy()

    def _allocate_block(self, block: int, span: slice, start: Evaluation, shown: "tqdm[Any]") -> Evaluation:
        """Allocate and write the iterations of one block; the evaluation at its last iterate."""
        iterates, iterations = [self._describe_iterate(start)], []
        lca = np.empty((span.stop - span.start, self.run.parameters.size), np.float32)
        theta0 = self.theta(span.start)
        for row, t in enumerate(range(span.start, span.stop)):
            theta1 = self.theta(t + 1)
            integral = self._integrate(theta0, theta1, start)
            values = self._describe(integral, theta1 - theta0)
            lca[row] = values.pop("lca")
            iterations.append(values)
            theta0, start = theta1, integral.end
            iterates.append(self._describe_iterate(start))
            shown.update()
        if span.stop < self.run.n_iterations:
            iterates.pop()  # the start of the next block, and written with it
        self.allocation.write_block(block, {**_columns(iterates), **_columns(iterations), "lca": lca.T})
        return start

    def _integrate(self, theta0: Tensor, theta1: Tensor, start: Evaluation, min_intervals: int = 1) -> Integral:
        return integrate_iteration(
            self.gradient,
            theta0,
            theta1,
            start,
            tolerance=self.config.tolerance,
            max_intervals=self.config.max_intervals,
            min_intervals=min_intervals,
            rule=self.config.rule,
        )

    def _describe(self, integral: Integral, motion: Tensor) -> dict[str, Any]:
        """What is stored of an iteration, by the names of the schema."""
        return {
            "lca": integral.allocation.float().cpu().numpy(),
            "allocated": integral.allocated,
            "residual": integral.residual,
            "intervals": integral.intervals,
            "status": int(integral.status),
            "layer_lca": sum_by_tensor(integral.allocation, self.lengths).cpu().numpy(),
            "motion_norm": norm_by_tensor(motion, self.lengths).cpu().numpy(),
        }

    def _describe_iterate(self, evaluation: Evaluation) -> dict[str, Any]:
        """What is stored of an iterate, by the names of the schema."""
        return {
            "loss": float(evaluation.loss),
            "gradient_norm": norm_by_tensor(evaluation.gradient, self.lengths).cpu().numpy(),
        }


def worst_iteration(
    loss: NDArray[np.float64],
    residual: NDArray[np.float64],
    intervals: NDArray[np.int16],
    status: NDArray[np.uint8],
    config: AllocateConfig,
) -> int | None:
    """The iteration to refine next so that the cumulative residual comes under its bound; None if it is, or cannot.

    loss: (T+1,), the others (T,). It is the one with the largest |residual|. An iteration at the limit, one that is not
    finite, and one whose residual is float32's own rounding cannot be made better; nor can the first order.
    """
    if config.rule == "first-order" or not abs(residual.sum()) > config.total_tolerance * abs(loss[-1] - loss[0]):
        return None
    rounding = 8 * FLOAT32_EPS * np.maximum(np.abs(loss[1:]), np.abs(loss[:-1]))
    open_ = (2 * intervals <= config.max_intervals) & (np.abs(residual) > rounding) & (status != Status.NOT_FINITE)
    return int(np.argmax(np.where(open_, np.abs(residual), 0))) if open_.any() else None


def _on_device(problem: Problem, config: AllocateConfig) -> Problem:
    """The problem with its model and the split in question on the device."""
    device = resolve_device(config.device)
    moved: dict[str, Any] = {config.split: tuple(x.to(device) for x in problem.split(config.split))}
    return replace(problem, model=problem.model.to(device), **moved)


def _full_gradient(problem: Problem, config: AllocateConfig, batch_size: int) -> FullGradient:
    return FullGradient(problem.model, problem.losses, problem.split(config.split), batch_size)


def _open_allocation(run: Run, problem: Problem, config: AllocateConfig, overwrite: bool) -> Allocation:
    """The allocation to go on with, or a new one; an error where one with other options is there."""
    name = config.name or config.split
    there = run.allocation(name) if name in run.allocations and not overwrite else None
    batch_size = config.batch_size
    if batch_size is None and there:
        batch_size = there.attributes["batch_size"]  # chosen once, so that every part of the allocation has the same
    attributes = {
        "split": config.split,
        "rule": config.rule,
        "tolerance": config.tolerance,
        "total_tolerance": config.total_tolerance,
        "max_intervals": config.max_intervals,
        "audit": config.audit,
        "seed": config.seed,
        "batch_size": batch_size or _choose_batch_size(problem, config),
        "batchnorm": "batch statistics" if has_batchnorm(problem.model) else "none",
        "precision": "fp32",
        "examples": len(problem.split(config.split)[0]),
    }
    attributes["fingerprint"] = fingerprint(attributes)
    if there is None:
        return run.create_allocation(name, attributes)
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
    return there


def _choose_batch_size(problem: Problem, config: AllocateConfig) -> int:
    if has_batchnorm(problem.model):
        return BATCHNORM_BATCH
    return fastest_batch_size(problem.model, problem.losses, problem.split(config.split))


def _require_same_problem(run: Run, problem: Problem, split: str) -> None:
    """Raise unless the run is complete, and of this model and data."""
    _require_complete(run)
    run.parameters.require_same(ParameterTable.of(problem.model), str(run.path), f"the model of {problem.name}")
    require_same_data(run, problem, split)


def _require_complete(run: Run) -> None:
    if run.status != "complete":
        held = f"{run.path} is unfinished: it holds {run.n_iterates:,}"
        if "train" in run.attributes:
            wanted, problem = run.attributes["train"]["iterations"] + 1, run.attributes["problem"]
            raise LCAError(
                f"{held} of {wanted:,} iterates; resume it with `lca train {problem} --out {run.path} --resume`."
            )
        raise LCAError(f"{held} iterates, and its recorder was not left in good order. Record it again.")
    if run.n_iterations == 0:
        raise LCAError(f"{run.path} holds no iteration: there is nothing to allocate.")


def _columns(rows: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Rows with the same keys -> one array per key, the row first."""
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}
