"""The stages of each method, each run in a process of its own, so that peak memory is that of the stage alone.

The process has torch and lca loaded also where a stage needs neither; that is 0.3 GB of each peak.
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
from bench.machine import peak_resident, start_module
from bench.record import make_problem
from lca.allocation.batch_size import BatchFormat
from lca.allocation.config import AllocateConfig
from lca.problem.batches import take
from lca.problem.objective import Objective
from lca.problem.problem import Problem

PROBLEM = "mnist-fc"


@dataclass(frozen=True)
class Task:
    """folder: of the method, where it leaves its files. iterates, K: the trajectory. sample: iterations whose A is kept
    beside the folder, to be compared. batch_format: of a pass, chosen by lca for speed; its own allocation chooses it
    again, unless batch_size is given. n_examples: of the training split; None: all. kill_at: see Passes.
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
    """recording_s, passes_s, rest_s: wall seconds an iteration; val_s: those of the val split in them.

    n_passes, n_val_passes: full-set passes done in all, over train and over val. peak: bytes resident at most.
    """

    recording_s: float = 0.0
    passes_s: float = 0.0
    rest_s: float = 0.0
    val_s: float = 0.0
    n_passes: int = 0
    n_val_passes: int = 0
    peak: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """That of two stages, one after the other."""
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items()}
        return Cost(**{**sums, "peak": max(self.peak, other.peak)})


def run(task: Task) -> Cost:
    """In a new process. Raises CalledProcessError, with returncode -9 where it was killed."""
    printed = start_module("bench.alternatives", "--stage", json.dumps(asdict(task)))
    return Cost(**json.loads(printed.splitlines()[-1]))


def work(text: str) -> str:
    """What the new process does: the text of a task -> that of its cost."""
    task = Task(**json.loads(text))
    task.path.mkdir(parents=True, exist_ok=True)
    return json.dumps(asdict(replace(STAGES[task.stage](task), peak=peak_resident())))


def load_problem(data_dir: Path | None, n_examples: int | None = None) -> Problem:
    problem = make_problem(PROBLEM, data_dir)
    val = problem.val or take(problem.train, slice(5_000))  # there are none where random images take their place
    return replace(problem, train=take(problem.train, slice(n_examples)), val=val)


def full_set(task: Task, **passes: Passes) -> dict[str, FullSetGradient]:
    """Of each split that there are passes for; the examples stay in memory in the form that passes take alone."""
    problem, batch_format = load_problem(task.data, task.n_examples), BatchFormat(**task.batch_format)
    gradients = {}
    for split, of_split in passes.items():
        data = problem.split(split)
        data = problem.scale(data) if problem.scale else data
        data = batch_format.apply(Objective(problem.model, problem.losses, data)).data
        gradients[split] = FullSetGradient(problem.model, problem.losses, data, batch_format.batch_size, of_split)
    return gradients


def time_call(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What it gives, and the wall seconds that it took."""
    begin = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begin


def record_paper(task: Task) -> Cost:
    _, wall_s = time_call(paper_flow.record, task.trajectory, task.path / "weights.h5")
    return Cost(recording_s=wall_s / task.T)


def gradients_paper(task: Task) -> Cost:
    train, val = Passes(task.kill_at), Passes()
    gradients = full_set(task, train=train, val=val)
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
    return Cost(rest_s=wall_s / task.T, val_s=wall_s / task.T / 2)  # it does the same with each of the two splits


def in_notebook(task: Task) -> Cost:
    gradient = full_set(task, train=Passes())["train"]
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


def at_fixed_steps(task: Task) -> Cost:
    """On the sample alone; the file has NaN for the other iterations, and the size that it has with all of them."""
    gradient, rule = full_set(task, train=Passes())["train"], fixed_step.RULES[task.stage]
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
    "paper-gradients": gradients_paper,
    "paper-whole": combine_paper,
    "paper-streamed": combine_paper,
    "notebook": in_notebook,
    **dict.fromkeys(fixed_step.RULES, at_fixed_steps),
    "lca-record": record_lca,
    "lca-allocate": allocate_lca,
}
