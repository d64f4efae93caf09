"""What an allocation costs beyond its passes, and how near a pass is to the machine's peak.

    .venv/bin/python scripts/bench_allocate.py [--data-dir FOLDER] [--iterations 64] [--repeats 3]

For mnist-fc on its 55,000 examples, mnist-lenet on 500 of them: the wall time of the blocks of an allocation over that
of a bare loop of as many full-set passes at the same batch size (the median of the ratios of interleaved pairs, with
their range), and the bare pass in GFLOP/s over the machine's own float32 peak, a product of two 4096² matrices by the
same threads in the same run. The preflight, the probe for the batch size and the audit are left out of the ratio: they
are a fixed number of passes, not a cost of each. Without the data set random images take its place.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from bench_record import make_problem
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import lca
from lca.allocation import AllocateConfig, Allocator
from lca.gradient import FullGradient, fastest_batch_size
from lca.parameters import flatten
from lca.problem import Batch, Problem
from lca.progress import bar
from lca.text import table


def first_examples(problem: Problem, n_examples: int) -> Problem:
    return replace(problem, train=tuple(x[:n_examples] for x in problem.train))


def record(problem: Problem, path: Path, iterations: int) -> None:
    config = lca.TrainConfig(iterations=iterations, learning_rate=0.01, device="cpu", batch_size=100)
    lca.train(problem, path, config)


def bare_pass(model: nn.Module, problem: Problem, batch_size: int) -> None:
    """A full-set pass as one would write it: the loss and its gradient, no more."""
    data: Batch = problem.train
    model.zero_grad()
    for begin in range(0, len(data[0]), batch_size):
        batch = tuple(x[begin : begin + batch_size] for x in data)
        (problem.losses(model, batch).sum() / len(data[0])).backward()


def seconds(function: object, *arguments: object) -> float:
    begin = time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return time.perf_counter() - begin


def peak_gflops() -> float:
    a = torch.randn(4096, 4096)
    return 2 * 4096**3 / min(seconds(torch.mm, a, a) for _ in range(4)) / 1e9


def measure(name: str, data_dir: Path | None, n_examples: int, iterations: int, repeats: int) -> list[str]:
    """A row of the table."""
    problem = first_examples(make_problem(name, data_dir), n_examples)
    config = AllocateConfig(tolerance=1e9, total_tolerance=1e9, audit=0, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        record(problem, path, iterations)
        problem.model.eval()
        size = fastest_batch_size(problem.model, problem.losses, problem.train)
        ratios, pass_s = [], []
        n_passes = 2 * iterations + 1
        for _ in range(repeats):
            bare = seconds(lambda: [bare_pass(problem.model, problem, size) for _ in range(n_passes)])
            run = lca.open(path, "r+")
            allocation = run.create_allocation("train", {"batch_size": size})
            with (
                FullGradient(problem.model, problem.losses, problem.train, size) as gradient,
                bar(1, "", shown=False) as b,
            ):
                allocated = seconds(Allocator(run, allocation, gradient, config).allocate_blocks, b)
                assert gradient.n_passes == n_passes, "the comparison is of equal numbers of passes"
            ratios.append(allocated / bare)
            pass_s.append(bare / n_passes)
    with FlopCounterMode(display=False) as flops:
        bare_pass(problem.model, problem, size)
    gflops = flops.get_total_flops() / median(pass_s) / 1e9
    return [
        f"{name} ({len(flatten(problem.model)):,})",
        f"{n_examples:,}",
        f"{size:,}",
        f"{1e3 * median(pass_s):.1f}",
        f"{median(ratios):.3f}",
        f"{min(ratios):.3f} … {max(ratios):.3f}",
        f"{gflops:.0f}",
        f"{gflops / peak_gflops():.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--iterations", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = [
        measure(name, options.data_dir, n_examples, options.iterations, options.repeats)
        for name, n_examples in (("mnist-fc", 55_000), ("mnist-lenet", 500))
    ]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.repeats} interleaved pairs each\n")
    header = ["problem (K)", "examples", "batch", "pass ms", "allocate/bare", "range", "GFLOP/s", "of peak"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
