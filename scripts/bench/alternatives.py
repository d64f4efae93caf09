"""What one would do without lca, side by side with it in one run: time, disk, memory, and how right the parts are.

    PYTHONPATH=scripts .venv/bin/python -m bench.alternatives [--data-dir FOLDER] [--picture FILE]
                                                               [--json FILE] [--only paper lca]

mnist-fc on the genuine MNIST, by its recipe: SGD 0.05 with momentum 0.9, 880 iterations. The training itself is not
counted: its iterates are recorded once and replayed to each method, which keeps them in its own way (`recording`).
All is on the CPU, in float32. `pip install 'loss-change-allocation[bench]'` brings h5py.

paper       Lan et al. 2019: weights in float64, gradients at every iterate and midpoint of train and val in float32,
            and from these the LCA of both, each as a gzip HDF5 file. Two versions of the last pass: whole arrays in
            memory, as one writes it in numpy, and a row at a time. Without their refinement, which would cost more.
notebook    The first order with everything in memory, and one np.save at the end.
gausslegendre-N, trapezoid-N    Captum's rules with N points in each iteration, A in memory and saved as .npy.
explaind-100    ExPLAIND's mean over the middles of 100 equal steps, likewise.
lca         The Recorder and lca.allocate with its defaults: probe, preflight and audit are in its time.

ms/it       Wall time of an iteration: recording, full-set passes, and the rest, such as compressing and storing. Those
            with a fixed number of points are timed on the sampled iterations alone, as 100 points cost 100 passes. The
            other methods' passes are a plain loop at the batch size that lca's probe finds, which is free for them.
bare pass   Of train, right before and right after the method. `in passes`: ms/it over it.
B/K/it      Bytes of all files that the flow leaves, by parameter and iteration.
peak        Resident memory at most, each stage in a process of its own, all that it loads (0.3 GB of code) included.
parts %     Σ|A − A_ref| / Σ|A_ref|, mean over the sampled iterations, A_ref by Simpson with n = 64; `signs %`: of the
            parameters with A_ref ≠ 0, how many have another sign.
resumes     Killed by SIGKILL at three quarters of its passes and started again, on a small part of the problem: whether
            it went on, and how many of the passes of a whole run the second start did. Methods that keep all in memory
            until the end are not tried. `several devices`: of the flows as they are written here.

Wanted of lca against the paper's flow: 0.8 of the time, 0.25 of the bytes on disk, 0.25 of the peak memory. About half
an hour on two cores, and 3 GB of disk. Without the data set random images take its place, and errors mean nothing.
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
N_BARE = 5  # passes, of which the median counts


@dataclass(frozen=True)
class Method:
    """stages: those that all its variants share, in order; the last of them is the one that is killed.

    variants: by the name in the table, the stage that comes after these, if any.
    """

    stages: tuple[str, ...]
    variants: Mapping[str, str | None]
    writes_as_it_goes: bool = False
    several_devices: bool = False


METHODS = {  # in their order; lca right after what it is held against, as the machine has moods
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
    """The iterates of the recipe, cut to so many iterations, in a file; and how many parameters each has."""
    problem, path = stages.load_problem(data_dir), folder / "trained.zarr"
    config = lca.TrainConfig(**recipe(PROBLEM, {"iterations": iterations}), device="cpu")
    iterates = copy_iterates(lca.train(problem, path, config), folder / "iterates.f32")
    shutil.rmtree(path)
    return str(iterates.path), iterates.K


def spread(T: int, n: int) -> list[int]:
    """n of T iterations, the middles of n equal parts of the run."""
    return sorted({int((i + 0.5) * T / n) for i in range(n)})


def prepare(folder: Path, options: argparse.Namespace) -> tuple[Task, FullSetGradient]:
    """What all stages have in common, and the pass that is timed beside them."""
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


def bare_s(gradient: FullSetGradient, task: Task) -> float:
    theta = task.trajectory[0]
    return median(stages.time_call(gradient, theta)[1] for _ in range(N_BARE))


def measure(method: str, task: Task, gradient: FullSetGradient, trial: Trial | None) -> dict[str, tuple[Result, Any]]:
    """By variant: the result, its errors still to come, and A of the sampled iterations, (sample, K)."""
    about, before = METHODS[method], bare_s(gradient, task)
    cost = stages.Cost()
    for stage in about.stages:
        cost += stages.run(replace(task, stage=stage))
    found = {}
    for name, last in about.variants.items():
        whole = cost + stages.run(replace(task, stage=last)) if last else cost
        val_bytes = sum(paper_flow.stored_bytes(path, "val") for path in task.path.glob("*.h5"))
        unit = task.K * task.T
        bare = before, bare_s(gradient, task)
        result = Result(whole, disk_bytes(task.path) / unit, val_bytes / unit, bare, about.several_devices, trial)
        found[name] = result, np.load(task.sample_file)
    shutil.rmtree(task.path)
    return found


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def try_to_kill(methods: list[str], folder: Path, task: Task) -> dict[str, Trial | None]:
    """A trial of each method that writes as it goes; on few examples, as only passes are counted."""
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
    """The results with their errors, and the reference's own error in each sampled iteration."""
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
    """All figures, for programs."""
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
    print(f"{PROBLEM}, {task.K:,} parameters, {task.T:,} iterations, of which {task.sample} are sampled")
    print(f"a pass in batches of {task.batch_format['batch_size']:,}; {time.perf_counter() - begin:.0f} s in all\n")
    print(methods_table(results), "\n")
    print(f"the reference's own error: n = 32 is off by {100 * np.mean(own):.3g} % of Σ|A| from n = 64\n")
    if ratios_found:
        print(ratios_table(ratios_found), "\n")
    if options.json:
        options.json.write_text(json.dumps(to_json(task, results, own, ratios_found), indent=1) + "\n")
    if options.picture:
        points = [picture.Point(name, r.seconds, 100 * float(np.mean(r.part_error))) for name, r in results.items()]
        title = f"{PROBLEM}, {task.T:,} iterations: what the error of the parts costs"
        picture.draw(points, 100 * float(np.mean(own)), title, options.picture)
        print(options.picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--iterations", type=int, default=880, help="of the recipe; memory and errors depend on them")
    parser.add_argument("--sample", type=int, default=6, help="iterations on which errors are measured")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
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
