"""Compares the certificate of an allocation with the truth, and counts the passes that each rule takes.

Three runs of `digits-fc`, a smooth, a rough and a dead one, are allocated with every rule. The true part error of every
iteration comes from an independent integral in float64 (`exact_parts`). For each run and rule, the page shows the
printed mean and its 95 % interval next to the truth, and the coverage: the fraction of intervals that contain the truth
if the audit is drawn again 1,000 times from the true errors.

PYTHONPATH=scripts python -m bench.certificate [--save FILE] [--mnist ROOT]

With --save, the true errors of the default rule are written to a file, from which a test draws audits. With --mnist,
`mnist-fc` takes the place of `digits-fc`: 128 iterations, in an early and a late range of 64, are allocated, and the
truth is computed for every fourth of them. This takes about an hour.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lca
from bench.exact_parts import measure_part_errors
from lca.problem.problem import Problem
from lca.store.audit import Audit, draw_iterations
from lca.store.schema import Status
from lca.store.summary import Summary
from lca.text import table

RUNS: dict[str, dict[str, Any]] = {
    "smooth": {},
    "rough": {"learning_rate": 0.5, "momentum": 0.99},
    "dead": {"learning_rate": 2.0, "momentum": 0.9},
}
RULES = ("simpson", "adaptive", "trapezoid")
REPEATS = 1_000

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, help="File to write the true errors to.")
    parser.add_argument("--mnist", type=Path, help="Folder of the MNIST dataset.")
    arguments = parser.parse_args()
    if arguments.mnist:
        print_mnist(arguments.mnist)
        return
    rows: list[list[str]] = []
    saved: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run, options in RUNS.items():
            path, problem = Path(folder) / f"{run}.zarr", lca.load("digits-fc")
            lca.train(problem, path, lca.TrainConfig(iterations=300, device="cpu"), **options)
            truth = measure_truth(path, lca.load("digits-fc"), range(300))
            for rule, (summary, true) in truth.items():
                row, arrays = describe(path, rule, summary, true)
                rows.append([run, rule, *row])
                if rule == "simpson":
                    saved |= {f"{run}/{name}": values for name, values in arrays.items()}
    headings = ["passes", "true mean %", "printed mean %", "interval %", "coverage %", "≤ 2 %", "largest %", "bounds"]
    print(table(["run", "rule", *headings], rows, left=(0, 1)))
    if arguments.save:
        np.savez_compressed(arguments.save, **saved)  # type: ignore[arg-type]


def print_mnist(root: Path) -> None:
    """Print the passes and the true part errors of every rule on two ranges of the iterations of `mnist-fc`."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mnist.zarr"
        lca.train(lca.load("mnist-fc", data_dir=root), path, lca.TrainConfig(iterations=464, device="cpu"))
        for begin in (0, 400):
            truth = measure_truth(path, lca.load("mnist-fc", data_dir=root), range(begin, begin + 64), 4, audit=0)
            for rule, (summary, true) in truth.items():
                errors = [100 * true.mean(), 100 * np.median(true), 100 * true.max(), 100 * np.mean(true <= 0.02)]
                rows.append([f"{begin} to {begin + 63}", rule, f"{summary.gradients_per_iteration:.2f}"])
                rows[-1] += [f"{value:.3g}" for value in errors]
    headings = ["iterations", "rule", "passes", "true mean %", "median %", "largest %", "≤ 2 %"]
    print(table(headings, rows, left=(0, 1)))


def measure_truth(
    path: Path, problem: Problem, iterations: range, step: int = 1, **options: Any
) -> dict[str, tuple[Summary, Floats]]:
    """Allocate iterations with every rule. Return the certificates and the true part errors of every `step`-th."""
    names = {rule: f"{rule}-{iterations.start}" for rule in RULES}
    span = f"{iterations.start}:{iterations.stop}"
    summaries = {
        rule: lca.allocate(path, problem, rule=rule, name=name, iterations=span, device="cpu", **options)
        for rule, name in names.items()
    }
    scale, (x, y) = problem.scale, problem.train
    images = scale((x, y))[0] if scale else x
    pixels = images.reshape(len(images), -1).numpy()
    true = measure_part_errors(path, list(names.values()), pixels, y.numpy(), iterations[::step])
    return {rule: (summaries[rule], true[name]) for rule, name in names.items()}


def describe(path: Path, rule: str, summary: Summary, true: Floats) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the cells of one row, and the true errors with the arrays from which audits are drawn."""
    allocation = lca.open(path).allocation(f"{rule}-0")
    arrays = {name: allocation.read(name) for name in ("part_estimate", "intervals", "status")} | {"part_error": true}
    covered = [draw_audit(arrays, seed).mean() for seed in range(REPEATS)]
    coverage = np.mean([abs(interval.mean - true.mean()) <= interval.half for interval in covered])
    assert summary.audit is not None
    low, high = summary.audit.mean().ends
    return [
        f"{summary.gradients_per_iteration:.2f}",
        f"{100 * true.mean():.3f}",
        f"{100 * summary.audit.mean().mean:.3f}",
        f"{100 * max(low, 0):.3f} to {100 * high:.3f}",
        f"{100 * coverage:.1f}",
        f"{100 * np.mean(true <= 0.02):.1f}",
        f"{100 * true.max():.2f}",
        "hold" if summary.within_bounds else f"{summary.unconverged} not converged",
    ], arrays


def draw_audit(arrays: dict[str, NDArray[Any]], seed: int) -> Audit:
    """Draw an audit whose part errors are the true ones."""
    estimate, true = (np.asarray(arrays[name], np.float64) for name in ("part_estimate", "part_error"))
    sample = draw_iterations(
        np.arange(len(true)), estimate, arrays["intervals"], arrays["status"] == Status.AT_LIMIT, 0.01, seed
    )
    at = np.array(sample.iterations)
    zero = [0.0] * len(at)
    return Audit(
        sample.iterations, true[at].tolist(), zero, zero, zero, estimate[at].tolist(), sample.stratum, sample.strata
    )


if __name__ == "__main__":
    main()
