"""Replay a run and allocate every iteration: blocks are planned, integrated and written; then the total is refined."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lca.device import resolve_device
from lca.errors import LCAError, UsageError
from lca.gradient import FullGradient, has_batchnorm
from lca.integrate import Evaluation, Integral, Status, integrate_iteration
from lca.parameters import ParameterTable, norm_by_tensor, sum_by_tensor
from lca.problem import Problem
from lca.progress import bar
from lca.provenance import require_same_data
from lca.store import Allocation, Run, fingerprint, open_run

FLOAT32_EPS = float(torch.finfo(torch.float32).eps)


@dataclass(frozen=True)
class AllocateConfig:
    """How to allocate."""

    split: str = "train"  # whose loss
    name: str | None = None  # of the allocation in the store; the split's if None
    tolerance: float = 1e-3  # of the residual of an iteration, in the loss's unit; the paper's
    total_tolerance: float = 1e-2  # of the cumulative residual, as a part of |L_T − L_0|; the paper's
    max_intervals: int = 64  # where halving the step stops
    batch_size: int = 1_000  # examples in a pass at once; with BatchNorm it is a part of what the loss is
    device: str = "auto"  # CUDA where there is one

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", self.split)
        for name in ("tolerance", "total_tolerance"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}; a positive number was wanted.")
        if self.max_intervals < 2 or self.max_intervals & (self.max_intervals - 1) or self.max_intervals > 2**14:
            raise UsageError(f"max_intervals is {self.max_intervals}; a power of two from 2 to 16384 was wanted.")
        if self.batch_size < 1:
            raise UsageError(f"batch_size is {self.batch_size}; at least 1 was wanted.")


@dataclass(frozen=True)
class Summary:
    """What an allocation came to, from its arrays. Losses and residuals are in the loss's unit.

    largest_residual: the largest |residual| of an iteration. gradients_per_iteration: the mean number of full-set
    gradients in an iteration's integral, the one at its end included and the one at its start not.
    refined: iterations with more than the first two subintervals. unconverged, not_finite: by status.
    within_bounds: whether every iteration converged and the cumulative residual is under its bound.
    """

    name: str
    iterations: int
    loss_start: float
    loss_end: float
    allocated: float
    cumulative_residual: float
    largest_residual: float
    gradients_per_iteration: float
    refined: int
    unconverged: int
    not_finite: int
    tolerance: float
    total_tolerance: float

    @property
    def change(self) -> float:
        """L_T − L_0."""
        return self.loss_end - self.loss_start

    @property
    def within_total(self) -> bool:
        return abs(self.cumulative_residual) <= self.total_tolerance * abs(self.change)

    @property
    def within_bounds(self) -> bool:
        return self.within_total and not self.unconverged and not self.not_finite


def allocate(
    path: Path | str,
    problem: Problem,
    config: AllocateConfig | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Summary:
    """Allocate the loss changes of a finished run to its parameters, and write the arrays of `lca/NAME`.

    problem: the one that the run was trained on; its model is used and left as it was, its weights do not matter.
    What an interrupted call left is gone on with; a finished allocation is only summed up; both unless overwrite.
    """
    config = config or AllocateConfig()
    run = open_run(path, "r+")
    _require_complete(run)
    run.parameters.require_same(ParameterTable.of(problem.model), str(path), f"the model of {problem.name}")
    require_same_data(run, problem, config.split)
    allocation = _open_allocation(run, problem, config, overwrite)
    if not allocation.complete:
        device = resolve_device(config.device)
        data = tuple(x.to(device) for x in problem.split(config.split))
        model = problem.model.to(device)
        with FullGradient(model, problem.losses, data, config.batch_size) as gradient:
            allocator = Allocator(run, allocation, gradient, config)
            with bar(run.n_iterations, "allocate", shown=progress) as shown:
                allocator.allocate_blocks(shown)
                allocator.refine_total(shown)
        allocation.finish()
    return summarize(allocation)


def summarize(allocation: Allocation) -> Summary:
    """The summary of a complete allocation, from its arrays alone."""
    loss, status = _read(allocation, "loss"), _read(allocation, "status")
    residual, intervals = _read(allocation, "residual"), _read(allocation, "intervals")
    return Summary(
        name=allocation.name,
        iterations=len(status),
        loss_start=float(loss[0]),
        loss_end=float(loss[-1]),
        allocated=float(_read(allocation, "allocated").sum()),
        cumulative_residual=float(residual.sum()),
        largest_residual=float(np.abs(residual).max(initial=0.0)),
        gradients_per_iteration=float(intervals.mean()) if len(intervals) else 0.0,
        refined=int((intervals > 2).sum()),
        unconverged=int((status == Status.AT_LIMIT).sum()),
        not_finite=int((status == Status.NOT_FINITE).sum()),
        tolerance=allocation.attributes["tolerance"],
        total_tolerance=allocation.attributes["total_tolerance"],
    )


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
        arrays = {name: _read(self.allocation, name) for name in ("loss", "residual", "intervals", "status")}
        n_refined = 0
        while (t := worst_iteration(**arrays, config=self.config)) is not None:
            theta0, theta1 = self.theta(t), self.theta(t + 1)
            integral = self._integrate(theta0, theta1, self.gradient(theta0), 2 * int(arrays["intervals"][t]))
            values = self._describe(integral, theta1 - theta0)
            self.allocation.write_iteration(t, values)
            for name in ("residual", "intervals", "status"):
                arrays[name][t] = values[name]
            n_refined += 1
            shown.set_postfix_str(f"{n_refined} refined for the total")

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

    def _integrate(self, theta0: Tensor, theta1: Tensor, start: Evaluation, min_intervals: int = 2) -> Integral:
        return integrate_iteration(
            self.gradient,
            theta0,
            theta1,
            start,
            tolerance=self.config.tolerance,
            max_intervals=self.config.max_intervals,
            min_intervals=min_intervals,
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
            "motion_norm": norm_by_tensor(motion.double(), self.lengths).cpu().numpy(),
        }

    def _describe_iterate(self, evaluation: Evaluation) -> dict[str, Any]:
        """What is stored of an iterate, by the names of the schema."""
        return {
            "loss": float(evaluation.loss),
            "gradient_norm": norm_by_tensor(evaluation.gradient.double(), self.lengths).cpu().numpy(),
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
    finite, and one whose residual is float32's own rounding cannot be made better.
    """
    if not abs(residual.sum()) > config.total_tolerance * abs(loss[-1] - loss[0]):
        return None
    rounding = 8 * FLOAT32_EPS * np.maximum(np.abs(loss[1:]), np.abs(loss[:-1]))
    open_ = (2 * intervals <= config.max_intervals) & (np.abs(residual) > rounding) & (status != Status.NOT_FINITE)
    return int(np.argmax(np.where(open_, np.abs(residual), 0))) if open_.any() else None


def _open_allocation(run: Run, problem: Problem, config: AllocateConfig, overwrite: bool) -> Allocation:
    """The allocation to go on with, or a new one; an error where one with other options is there."""
    name = config.name or config.split
    attributes = {
        "split": config.split,
        "rule": "simpson",
        "tolerance": config.tolerance,
        "total_tolerance": config.total_tolerance,
        "max_intervals": config.max_intervals,
        "batch_size": config.batch_size,
        "batchnorm": "batch statistics" if has_batchnorm(problem.model) else "none",
        "precision": "fp32",
        "examples": len(problem.split(config.split)[0]),
    }
    attributes["fingerprint"] = fingerprint(attributes)
    if name not in run.allocations or overwrite:
        return run.create_allocation(name, attributes)
    allocation = run.allocation(name)
    different = [key for key, value in attributes.items() if allocation.attributes.get(key) != value]
    if different:
        told = ", ".join(
            f"{key} {allocation.attributes.get(key)} there and {attributes[key]} here"
            for key in different
            if key != "fingerprint"
        )
        raise UsageError(
            f"{run.path} has an allocation {name!r} with other options: {told}. "
            "Give the same, another --name, or replace it with --overwrite."
        )
    return allocation


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


def _read(allocation: Allocation, name: str) -> NDArray[Any]:
    return np.asarray(getattr(allocation, name)[:])
