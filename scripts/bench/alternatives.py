"""Compare lca with the methods that one would use without it: time, disk space, memory and accuracy.

    PYTHONPATH=scripts .venv/bin/python -m bench.alternatives [--data-dir FOLDER] [--picture FILE]
                                                               [--json FILE] [--only paper lca]

The problem is mnist-fc on the genuine MNIST, trained by its recipe: SGD with learning rate 0.05 and momentum 0.9, 880
iterations. Training is not measured. Its iterates are recorded once and replayed to each method, which stores them in
its own way (column `recording`). Everything runs on the CPU in float32. Requires h5py, which is installed by
`pip install 'loss-change-allocation[bench]'`.

Methods
paper       The pipeline of Lan et al. 2019. It stores the weights in float64 and the gradients of train and val at
            every iterate and midpoint in float32, and computes the LCA of both splits from them. All are HDF5 files
            compressed with gzip. The last step exists in two versions: with whole arrays in memory, as one would write
            it in NumPy, and row by row. The refinement of the paper is left out. It would increase the cost.
notebook    The first-order rule, with everything in memory and a single np.save at the end.
gausslegendre-N, trapezoid-N    Captum's rules with N points per iteration. A is kept in memory and saved as .npy.
explaind-100    ExPLAIND's mean over the midpoints of 100 equal steps, stored in the same way.
lca         lca.Recorder and lca.allocate with their defaults. The time includes the trials of batch sizes, the
            preflight and the audit.

Columns
ms/it       Wall time per iteration: recording, full-set passes, and the rest, such as compression and writing. Methods
            with a fixed number of points are timed on the sampled iterations only, because 100 points take 100 passes.
            All methods except lca use a plain loop over mini-batches with the batch size that lca has chosen, and are
            not charged for that choice.
bare pass   Time of one pass over train, measured immediately before and after the method. The column `in passes` shows
            ms/it divided by it.
B/K/it      Bytes of all files that the method leaves, per parameter and iteration.
peak        Peak resident memory. Each stage runs in a new process, whose loaded code takes 0.3 GB of it.
parts %     Σ|A − A_ref| / Σ|A_ref|, averaged over the sampled iterations. The reference A_ref is Simpson's rule with
            n = 64. The column `signs %` shows the percentage of the parameters with A_ref ≠ 0 whose sign is wrong.
resumes     Whether the method continues after SIGKILL at three quarters of its passes, tested on a small part of the
            problem. In brackets: passes of the second start / passes of an uninterrupted run. Methods that keep
            everything in memory until the end are not tested.
several devices    Whether the method, as implemented here, can share its work among devices.

Target for lca, compared with the pipeline of the paper: at most 0.8 of the time, 0.25 of the bytes on disk and 0.25 of
the peak memory. Takes about half an hour on two cores and 3 GB of disk space. Without the dataset, random images
replace it, and the errors are meaningless.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import lca
from bench import machine
from bench.flows import fixed_step, paper_flow, picture, reference, stages
from bench.flows.comparison import Ratio, Result, methods_table, ratios, ratios_table
from bench.flows.full_set import FullSetGradient
from bench.flows.iterates import copy_iterates
from bench.flows.kill import Trial, kill_and_restart
from bench.flows.stages import PROBLEM, Task
from lca.allocation.batch_size import choose_batch_format
from lca.model.evaluation_mode import evaluation_mode
from lca.problem.objective import Objective
from lca.problem.zoo.presets import recipe
from lca.store.audit import compare_parts
from lca.store.chunks import BLOCK

TRIAL_ITERATIONS, TRIAL_EXAMPLES, TRIAL_BATCH = 3 * BLOCK, 2_000, 500
N_BARE = 5  # bare passes, whose median is used


@dataclass(frozen=True)
class Method:
    """A method as a sequence of stages.

    `stages` are common to all variants, in order. The last of them is killed in the trial. `variants` maps each name
    in the table to the additional stage that follows, or to None.
    """

    stages: tuple[str, ...]
    variants: Mapping[str, str | None]
    writes_as_it_goes: bool = False
    several_devices: bool = False


METHODS = {  # lca runs right after the method of its target, because the speed of the machine drifts
    "paper": Method(
        ("paper-record", "paper-gradients"),
        {"paper, whole arrays": "paper-whole", "paper, streamed": "paper-streamed"},
        writes_as_it_goes=True,
    ),
    "lca": Method(("lca-record", "lca-allocate"), {"lca": None}, writes_as_it_goes=True, several_devices=True),
    "notebook": Method(("notebook",), {"notebook": None}),
    **{rule: Method((rule,), {rule: None}) for rule in fixed_step.RULES},
}


def record_trajectory(data_dir: Path | None, iterations: int, folder: Path) -> tuple[str, int]:
    """Train by the recipe and write the iterates to a file. Returns its path and the number of parameters."""
    problem, path = stages.load_problem(data_dir), folder / "trained.zarr"
    config = lca.TrainConfig(**recipe(PROBLEM, {"iterations": iterations}), device="cpu")
    iterates = copy_iterates(lca.train(problem, path, config), folder / "iterates.f32")
    shutil.rmtree(path)
    return str(iterates.path), iterates.K


def spread(T: int, n: int) -> list[int]:
    """Return n of T iterations: the middles of n equal parts of the run."""
    return sorted({int((i + 0.5) * T / n) for i in range(n)})


def prepare(folder: Path, options: argparse.Namespace) -> tuple[Task, FullSetGradient]:
    """Return the task that all stages share, and the gradient whose bare passes are timed for comparison."""
    problem = stages.load_problem(options.data_dir)
    data = problem.scale(problem.train) if problem.scale else problem.train
    with evaluation_mode(problem.model):
        objective = Objective(problem.model, problem.losses, data)
        batch_format = choose_batch_format(objective)
    iterates, K = record_trajectory(options.data_dir, options.iterations, folder)
    sample = spread(options.iterations, options.sample)
    data_dir = str(options.data_dir) if options.data_dir else None
    task = Task("", "", iterates, K, sample, asdict(batch_format), data_dir=data_dir)
    data = batch_format.apply(objective).data
    return task, FullSetGradient(problem.model, problem.losses, data, batch_format.batch_size)


def time_bare_pass(gradient: FullSetGradient, task: Task) -> float:
    theta = task.trajectory[0]
    return median(stages.time_call(gradient, theta)[1] for _ in range(N_BARE))


def measure(method: str, task: Task, gradient: FullSetGradient, trial: Trial | None) -> dict[str, tuple[Result, Any]]:
    """Run a method. Returns its result (without errors) and its A (sample, K) for each variant."""
    about, before = METHODS[method], time_bare_pass(gradient, task)
    cost = stages.Cost()
    for stage in about.stages:
        cost += stages.run(replace(task, stage=stage))
    found = {}
    for name, last in about.variants.items():
        whole = cost + stages.run(replace(task, stage=last)) if last else cost
        val_bytes = sum(paper_flow.stored_bytes(path, "val") for path in task.path.glob("*.h5"))
        unit = task.K * task.T
        bare = before, time_bare_pass(gradient, task)
        result = Result(
            whole, measure_disk_bytes(task.path) / unit, val_bytes / unit, bare, about.several_devices, trial
        )
        found[name] = result, np.load(task.sample_file)
    shutil.rmtree(task.path)
    return found


def measure_disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def try_to_kill(methods: list[str], folder: Path, task: Task) -> dict[str, Trial | None]:
    """Kill and restart each method that writes as it goes. Few examples suffice, because only passes are counted."""
    iterates, _ = record_trajectory(task.data, TRIAL_ITERATIONS, folder)
    batch_format = {"batch_size": TRIAL_BATCH, "channels_last": False}
    task = replace(task, iterates=iterates, sample=[0], batch_format=batch_format, batch_size=TRIAL_BATCH)
    task = replace(task, n_examples=TRIAL_EXAMPLES, folder=str(folder / "trial"))
    return {
        name: kill_and_restart(METHODS[name].stages, task) if METHODS[name].writes_as_it_goes else None
        for name in methods
    }


def measure_errors(
    found: Mapping[str, tuple[Result, Any]], task: Task, gradient: FullSetGradient
) -> tuple[dict[str, Result], list[float]]:
    """Return the results with their errors, and the error of the reference itself in each sampled iteration."""
    iterates, results, own = task.trajectory, {name: result for name, (result, _) in found.items()}, []
    for i, t in enumerate(task.sample):
        half, whole = reference.allocate(gradient, iterates[t], iterates[t + 1])
        own.append(compare_parts(half, half, whole)["part_error"])
        for name, (_, allocation) in found.items():
            errors = compare_parts(allocation[i].astype(np.float64), half, whole)
            results[name].part_error.append(errors["part_error"])
            results[name].sign_error.append(errors["sign_change"])
    return results, own


def compare_with_paper(results: Mapping[str, Result]) -> list[Ratio]:
    others = [name for name in METHODS["paper"].variants if name in results and "lca" in results]
    return [ratio for name in others for ratio in ratios(results["lca"], name, results[name])]


def to_json(task: Task, results: Mapping[str, Result], own: list[float], found: list[Ratio]) -> dict[str, Any]:
    """Return all measurements in the form of the JSON file."""
    return {
        "machine": dict(machine.describe()),
        "problem": PROBLEM,
        "parameters": task.K,
        "iterations": task.T,
        "sample": task.sample,
        "batch_format": task.batch_format,
        "reference": {"intervals": reference.N, "error_at_half": own},
        "methods": {
            name: {**asdict(result), "seconds": result.seconds, "in_passes": result.in_passes}
            for name, result in results.items()
        },
        "ratios": [{**asdict(each), "ratio": each.ratio, "verdict": each.verdict} for each in found],
    }


def compare_all(options: argparse.Namespace, folder: Path) -> None:
    begin = time.perf_counter()
    task, gradient = prepare(folder, options)
    (folder / "few").mkdir()
    trials = try_to_kill(options.only, folder / "few", task)
    found: dict[str, tuple[Result, Any]] = {}
    for method in options.only:
        found |= measure(method, replace(task, folder=str(folder / method)), gradient, trials[method])
        print(f"{method}: done after {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    results, own = measure_errors(found, task, gradient)
    ratios_found = compare_with_paper(results)
    print(f"{PROBLEM}: {task.K:,} parameters, {task.T:,} iterations (sampled: {task.sample})")
    print(f"batch size {task.batch_format['batch_size']:,}, {time.perf_counter() - begin:.0f} s in total\n")
    print(methods_table(results), "\n")
    print(f"error of the reference: n = 32 differs from n = 64 by {100 * np.mean(own):.3g} % of Σ|A|\n")
    if ratios_found:
        print(ratios_table(ratios_found), "\n")
    if options.json:
        options.json.write_text(json.dumps(to_json(task, results, own, ratios_found), indent=1) + "\n")
    if options.picture:
        points = [picture.Point(name, r.seconds, 100 * float(np.mean(r.part_error))) for name, r in results.items()]
        title = f"{PROBLEM}, {task.T:,} iterations: accuracy and time of each method"
        picture.draw(points, 100 * float(np.mean(own)), title, options.picture)
        print(options.picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument("--iterations", type=int, default=880, help="Number of iterations of the recipe to run.")
    parser.add_argument("--sample", type=int, default=6, help="Number of iterations on which errors are measured.")
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help="Methods to measure."
    )
    parser.add_argument("--picture", type=Path, help="File of the figure.")
    parser.add_argument("--json", type=Path, help="File of all measurements, as JSON.")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(stages.work(options.stage))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        compare_all(options, Path(folder))


if __name__ == "__main__":
    main()
