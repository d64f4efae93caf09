"""The stages of each method. Each runs in a new process, so that its peak memory can be measured.

Every process loads torch and lca, even if a stage needs neither. They take 0.3 GB of each peak.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import lca
from bench.flows import fixed_step, lca_flow, notebook, paper_flow
from bench.flows.full_set import FullSetGradient, Passes
from bench.flows.iterates import Iterates
from bench.machine import start_module
from bench.record import make_problem
from lca.allocation.batch_size import BatchFormat
from lca.allocation.config import AllocateConfig
from lca.problem.batches import take
from lca.problem.objective import Objective
from lca.problem.problem import Problem
from lca.runtime.host import get_peak_memory_bytes

PROBLEM = "mnist-fc"


@dataclass(frozen=True)
class Task:
    """The inputs of a stage.

    `folder` receives the files of the method. `iterates` and `K` describe the trajectory. `sample` lists the iterations
    whose A is stored next to the folder for the comparison. `batch_format` is the format of a pass, as chosen by lca.
    The allocation by lca chooses it again, unless `batch_size` is given. `n_examples` limits the training split, and
    `kill_at` is explained in Passes.
    """

    stage: str
    folder: str
    iterates: str
    K: int
    sample: list[int]
    batch_format: dict[str, Any]
    batch_size: int | None = None
    n_examples: int | None = None
    data_dir: str | None = None
    kill_at: int | None = None

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def trajectory(self) -> Iterates:
        return Iterates(Path(self.iterates), self.K)

    @property
    def data(self) -> Path | None:
        return Path(self.data_dir) if self.data_dir else None

    @property
    def T(self) -> int:
        return len(self.trajectory) - 1

    @property
    def sample_file(self) -> Path:
        return Path(f"{self.folder}-sample.npy")


@dataclass(frozen=True)
class Cost:
    """The cost of a stage.

    `recording_s`, `passes_s` and `rest_s` are seconds per iteration, and `val_s` is the share of the val split in them.
    `n_passes` and `n_val_passes` count the passes over train and over val. `peak` is the peak resident memory in bytes.
    """

    recording_s: float = 0.0
    passes_s: float = 0.0
    rest_s: float = 0.0
    val_s: float = 0.0
    n_passes: int = 0
    n_val_passes: int = 0
    peak: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of two stages that run one after the other."""
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items()}
        return Cost(**{**sums, "peak": max(self.peak, other.peak)})


def run(task: Task) -> Cost:
    """Run a stage in a new process. Raises CalledProcessError if it fails, with returncode -9 if it was killed."""
    printed = start_module("bench.alternatives", "--stage", json.dumps(asdict(task)))
    return Cost(**json.loads(printed.splitlines()[-1]))


def work(text: str) -> str:
    """Run a stage in this process. The task and the returned cost are JSON texts."""
    task = Task(**json.loads(text))
    task.path.mkdir(parents=True, exist_ok=True)
    return json.dumps(asdict(replace(STAGES[task.stage](task), peak=get_peak_memory_bytes())))


def load_problem(data_dir: Path | None, n_examples: int | None = None) -> Problem:
    problem = make_problem(PROBLEM, data_dir)
    val = problem.val or take(problem.train, slice(5_000))  # random images have no val split
    return replace(problem, train=take(problem.train, slice(n_examples)), val=val)


def make_gradients(task: Task, **passes: Passes) -> dict[str, FullSetGradient]:
    """Return the full-set gradient of each split named in `passes`, with the scaled examples in memory."""
    problem, batch_format = load_problem(task.data, task.n_examples), BatchFormat(**task.batch_format)
    gradients = {}
    for split, split_passes in passes.items():
        data = problem.split(split)
        data = problem.scale(data) if problem.scale else data
        data = batch_format.apply(Objective(problem.model, problem.losses, data)).data
        gradients[split] = FullSetGradient(problem.model, problem.losses, data, batch_format.batch_size, split_passes)
    return gradients


def time_call(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return the result of a call and its wall-clock time in seconds."""
    begin = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begin


def record_paper(task: Task) -> Cost:
    _, wall_s = time_call(paper_flow.record, task.trajectory, task.path / "weights.h5")
    return Cost(recording_s=wall_s / task.T)


def compute_paper_gradients(task: Task) -> Cost:
    train, val = Passes(task.kill_at), Passes()
    gradients = make_gradients(task, train=train, val=val)
    files = task.path / "weights.h5", task.path / "gradients.h5"
    by_split, wall_s = time_call(paper_flow.compute_gradients, *files, gradients)
    passes_s = train.seconds + val.seconds
    return Cost(
        passes_s=passes_s / task.T,
        rest_s=(wall_s - passes_s) / task.T,
        val_s=by_split["val"] / task.T,
        n_passes=train.n,
        n_val_passes=val.n,
    )


def combine_paper(task: Task) -> Cost:
    combine = {"paper-whole": paper_flow.combine_whole, "paper-streamed": paper_flow.combine_streamed}[task.stage]
    weights, gradients, target = (task.path / f"{name}.h5" for name in ("weights", "gradients", "lca"))
    _, wall_s = time_call(combine, weights, gradients, target)
    with h5py.File(target) as file:
        np.save(task.sample_file, file["train"][task.sample])
    return Cost(rest_s=wall_s / task.T, val_s=wall_s / task.T / 2)  # both splits take the same time


def run_notebook(task: Task) -> Cost:
    gradient = make_gradients(task, train=Passes())["train"]
    iterates, recording_s = time_call(list, task.trajectory)
    allocation, wall_s = time_call(notebook.first_order, gradient, iterates)
    _, storing_s = time_call(np.save, task.path / "lca.npy", allocation)
    np.save(task.sample_file, allocation[task.sample])
    passes = gradient.passes
    return Cost(
        recording_s=recording_s / task.T,
        passes_s=passes.seconds / task.T,
        rest_s=(wall_s - passes.seconds + storing_s) / task.T,
        n_passes=passes.n,
    )


def run_fixed_steps(task: Task) -> Cost:
    """Allocate only the sampled iterations. The file has its full size, with NaN for the other iterations."""
    gradient, rule = make_gradients(task, train=Passes())["train"], fixed_step.RULES[task.stage]
    iterates, recording_s = time_call(list, task.trajectory)
    allocation = np.full((task.T, task.K), np.nan, np.float32)

    def allocate() -> None:
        for t in task.sample:
            allocation[t] = fixed_step.allocate(gradient, iterates[t], iterates[t + 1], rule)

    _, wall_s = time_call(allocate)
    _, storing_s = time_call(np.save, task.path / "lca.npy", allocation)
    np.save(task.sample_file, allocation[task.sample])
    passes, n = gradient.passes, len(task.sample)
    return Cost(
        recording_s=recording_s / task.T,
        passes_s=passes.seconds / n,
        rest_s=(wall_s - passes.seconds) / n + storing_s / task.T,
        n_passes=passes.n,
    )


def record_lca(task: Task) -> Cost:
    model = load_problem(task.data).model
    _, wall_s = time_call(lca_flow.record, task.trajectory, task.path / "run.zarr", model)
    return Cost(recording_s=wall_s / task.T)


def allocate_lca(task: Task) -> Cost:
    problem, passes, path = load_problem(task.data, task.n_examples), Passes(task.kill_at), task.path / "run.zarr"
    config = AllocateConfig(device="cpu", batch_size=task.batch_size)
    with lca_flow.count_passes(len(problem.train[0]), passes):
        _, wall_s = time_call(lca.allocate, path, problem, config)
    stored = lca.open(path).allocation("train").lca
    np.save(task.sample_file, np.stack([stored[:, t] for t in task.sample]))
    return Cost(passes_s=passes.seconds / task.T, rest_s=(wall_s - passes.seconds) / task.T, n_passes=passes.n)


STAGES: dict[str, Callable[[Task], Cost]] = {
    "paper-record": record_paper,
    "paper-gradients": compute_paper_gradients,
    "paper-whole": combine_paper,
    "paper-streamed": combine_paper,
    "notebook": run_notebook,
    **dict.fromkeys(fixed_step.RULES, run_fixed_steps),
    "lca-record": record_lca,
    "lca-allocate": allocate_lca,
}
