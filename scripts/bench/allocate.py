"""What an allocation costs beyond its passes, how near a pass is to the machine's peak, and what each rule buys.

    PYTHONPATH=scripts .venv/bin/python -m bench.allocate [--data-dir FOLDER] [--only overhead memory …] [--repeats 3]

overhead  Wall time of a whole `lca.allocate`, probe, preflight and audit included, over that of a bare loop of as many
          full-set passes at the same batch size, the loop timed right before and after it. Wanted: 1.05 at most. And
          the bare pass in GFLOP/s over the float32 peak, a product of two 4096² matrices by the same threads right
          beside it. Wanted: 0.70 for mnist-fc.
memory    Peak resident memory of a process that allocates T iterations, and 4 T. Wanted: the split (as stored, and as
          the floats of the examples in use) plus 1 GB.
rules     Each rule and precision on the same iterations of mnist-fc: its price, its residual, the error of its parts.
quick     The command that allocates the 300 iterations of digits-fc. Wanted: 10 s at most.
gpu       Where there is one: the time of a full pass, as a CUDA graph and eager, and its share of the device's peak.

About 25 minutes on two cores. Without the data set random images take its place: the times hold, the errors do not.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

import lca
from bench.machine import peak_resident, start_module
from bench.record import make_problem
from lca.allocation.allocate import allocate
from lca.allocation.batch_size import BatchFormat, choose_batch_format
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError
from lca.model.evaluation_mode import evaluation_mode
from lca.model.parameters import flatten
from lca.problem.batches import split_batch, take
from lca.problem.objective import Objective
from lca.problem.problem import Problem
from lca.store.audit import mean_with_confidence
from lca.store.summary import Summary
from lca.text import size, table


def make(name: str, data_dir: Path | None, n_examples: int | None = None) -> Problem:
    """A built-in problem, its images as floats."""
    problem = make_problem(name, data_dir)
    train = take(problem.train, slice(n_examples))
    return replace(problem, train=problem.scale(train) if problem.scale else train, scale=None)


def record(problem: Problem, path: Path, iterations: int, learning_rate: float = 0.01) -> None:
    options = {"iterations": iterations, "learning_rate": learning_rate, "device": "cpu", "batch_size": 250}
    lca.train(problem, path, lca.TrainConfig(**options))  # type: ignore[arg-type]


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def bare_loop(problem: Problem, batch_format: BatchFormat, n_passes: int) -> None:
    """Full-set passes as one would write them: the loss and its gradient, no more."""
    memory_format = torch.channels_last if batch_format.channels_last else torch.contiguous_format
    x, y = problem.train
    data = (x.contiguous(memory_format=memory_format), y)
    with evaluation_mode(problem.model):
        for _ in range(n_passes):
            problem.model.zero_grad()
            for batch in split_batch(data, batch_format.batch_size):
                (problem.losses(problem.model, batch).sum() / len(y)).backward()  # type: ignore[no-untyped-call]


@contextmanager
def count_passes(n_examples: int) -> Iterator[list[int]]:
    """The full-set passes done inside, as the length of the list; those of the probe are of a part of the set."""
    done: list[int] = []
    evaluate = FullGradient._evaluate

    def counting(self: FullGradient, *arguments: object) -> object:
        if self.objective.n_examples == n_examples:
            done.append(1)
        return evaluate(self, *arguments)  # type: ignore[arg-type]

    with patch.object(FullGradient, "_evaluate", counting):
        yield done


def peak_gflops(device: str = "cpu") -> float:
    a = torch.randn(4096, 4096, device=device)

    def product() -> None:
        a.mm(a)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * 4096**3 / min(seconds(product) for _ in range(4)) / 1e9


def flops_of(problem: Problem, batch_size: int) -> int:
    with FlopCounterMode(display=False) as flops:
        bare_loop(problem, BatchFormat(batch_size), n_passes=1)
    return int(flops.get_total_flops())


def overhead(name: str, data_dir: Path | None, n_examples: int, iterations: int, repeats: int) -> list[str]:
    """A row of the table."""
    problem = make(name, data_dir, n_examples)
    config = AllocateConfig(tolerance=1e9, total_tolerance=1e9, device="cpu")
    ratios, pass_s, peak = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        record(problem, path, iterations)
        with evaluation_mode(problem.model):
            batch_format = choose_batch_format(Objective(problem.model, problem.losses, problem.train))
        n_bare = max(3, iterations // 6)

        def bare() -> float:
            return seconds(lambda: bare_loop(problem, batch_format, n_bare)) / n_bare

        bare()
        for _ in range(repeats):
            before = bare()
            peak.append(peak_gflops())
            with count_passes(n_examples) as done:
                allocated = seconds(lambda: allocate(path, problem, config, overwrite=True))
            pass_s += [before, bare()]
            ratios.append(allocated / len(done) / ((pass_s[-2] + pass_s[-1]) / 2))
    gflops = flops_of(problem, batch_format.batch_size) / median(pass_s) / 1e9
    return [
        f"{name} ({len(flatten(problem.model)):,})",
        f"{n_examples:,}",
        f"{batch_format.batch_size:,}{' nhwc' if batch_format.channels_last else ''}",
        f"{1e3 * median(pass_s):.1f}",
        f"{median(ratios):.3f}",
        f"{min(ratios):.3f} … {max(ratios):.3f}",
        f"{gflops:.0f}",
        f"{gflops / median(peak):.2f}",
    ]


def peak_memory(name: str, data_dir: Path | None, n_examples: int, iterations: int) -> tuple[int, int]:
    """Bytes: peak resident memory of a fresh process that allocates so many iterations; the split."""
    with tempfile.TemporaryDirectory() as folder:
        path, problem = Path(folder) / "run.zarr", make_problem(name, data_dir)
        record(problem, path, iterations)
        arguments = ["--peak", name, str(path), str(n_examples)]
        arguments += ["--data-dir", str(data_dir)] if data_dir else []
        in_use = make(name, data_dir, n_examples).train
    return int(start_module("bench.allocate", *arguments).split()[-1]), sum(x.nbytes for x in (*problem.train, *in_use))


def rules(data_dir: Path | None, iterations: str) -> list[list[str]]:
    """A row of the table for each rule and precision."""
    problem = make("mnist-fc", data_dir)
    wanted = [("first-order", "fp32"), ("trapezoid", "fp32"), ("simpson", "fp32"), ("simpson", "bf16")]
    if torch.cuda.is_available():
        wanted.insert(3, ("simpson", "tf32"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        record(problem, path, 256, learning_rate=0.05)
        for rule, precision in wanted:
            config = AllocateConfig(
                name=f"{rule}-{precision}",
                rule=rule,
                precision=precision,
                iterations=iterations,
                audit=0.1,
                # The first attempt of each rule is what is compared.
                tolerance=1e9,
                total_tolerance=1e9,
            )
            summary = allocate(path, problem, config)
            rows.append([rule, precision, f"{pass_ms(problem, config):.1f}", *errors(summary)])
    return rows


def errors(summary: Summary) -> list[str]:
    assert summary.audit is not None
    parts, signs, shift = (
        mean_with_confidence(values)[0]
        for values in (summary.audit.part_error, summary.audit.sign_change, summary.audit.helping_shift)
    )
    return [
        f"{summary.gradients_per_iteration:.0f}",
        f"{summary.largest_residual:.1e}",
        f"{100 * abs(summary.cumulative_residual / summary.change):.3f}",
        f"{100 * parts:.2f}",
        f"{100 * signs:.2f}",
        f"{shift:+.3f}",
    ]


def pass_ms(problem: Problem, config: AllocateConfig) -> float:
    """Of a full-set pass, the best of five."""
    device = next(problem.model.parameters()).device
    objective = Objective(problem.model, problem.losses, tuple(x.to(device) for x in problem.train))
    batch_format = choose_batch_format(objective)
    with FullGradient(batch_format.apply(objective), batch_format.batch_size, precision=config.precision) as gradient:
        return 1e3 * min(seconds(lambda: float(gradient(gradient.theta).loss)) for _ in range(6))


def quick() -> float:
    """Wall seconds of the command."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "digits.zarr")
        lca = [sys.executable, "-m", "lca"]
        subprocess.run([*lca, "train", "digits-fc", "--out", path], check=True, capture_output=True)
        return seconds(lambda: subprocess.run([*lca, "allocate", path], check=True, capture_output=True))


def on_gpu(name: str, data_dir: Path | None) -> list[str]:
    """A row of the table."""
    problem = make(name, data_dir)
    problem.model.to("cuda")
    data = tuple(x.to("cuda") for x in problem.train)
    objective = Objective(problem.model, problem.losses, data)
    batch_format = choose_batch_format(objective)

    def pass_s() -> float:
        with FullGradient(batch_format.apply(objective), batch_format.batch_size) as gradient:
            best = min(seconds(lambda: float(gradient(gradient.theta).loss)) for _ in range(10))
            print(*gradient.notes, sep="\n", file=sys.stderr)
            return best

    graph_s = pass_s()
    with patch("lca.allocation.full_gradient.capture", lambda function, device: (function, None)):
        eager_s = pass_s()
    gflops = flops_of(replace(problem, train=data), batch_format.batch_size) / graph_s / 1e9
    return [
        f"{name} ({len(flatten(problem.model)):,})",
        f"{len(data[0]):,}",
        f"{batch_format.batch_size:,}",
        f"{1e3 * graph_s:.2f}",
        f"{1e3 * eager_s:.2f}",
        f"{gflops:.0f}",
        f"{gflops / peak_gflops('cuda'):.2f}",
    ]


def print_overhead(data_dir: Path | None, iterations: int, repeats: int) -> None:
    sets = [("mnist-fc", 55_000), ("mnist-lenet", 2_000), ("mnist-lenet", 500), ("digits-resnet", 1_500)]
    rows = [overhead(name, data_dir, N, iterations, repeats) for name, N in sets]
    header = ["problem (K)", "examples", "batch", "pass ms", "allocate/bare", "range", "GFLOP/s", "of peak"]
    print(table(header, rows), "\n", flush=True)


def print_memory(data_dir: Path | None) -> None:
    rows = []
    for name, N in (("mnist-fc", 55_000), ("mnist-lenet", 500)):
        peaks, (split, _) = zip(*(peak_memory(name, data_dir, N, T) for T in (64, 256)), strict=True)
        rows.append([name, size(split), *map(size, peaks), size(max(peaks) - split)])
    print(table(["peak memory", "split", "T = 64", "T = 256", "beyond the split"], rows), "\n", flush=True)


def print_rules(data_dir: Path | None) -> None:
    header = ["rule", "precision", "pass ms", "gradients/it", "residual", "total %", "parts %", "signs %", "helping"]
    print(table(header, rules(data_dir, "100:164")), "\n", flush=True)


def print_gpu(data_dir: Path | None) -> None:
    print(torch.cuda.get_device_name())
    rows = []
    for name in ("mnist-fc", "mnist-lenet", "cifar-resnet"):
        try:
            rows.append(on_gpu(name, data_dir))
        except LCAError as error:
            print(error, file=sys.stderr)
    print(table(["problem (K)", "examples", "batch", "graph ms", "eager ms", "GFLOP/s", "of peak"], rows))


def main() -> None:
    parts = ["overhead", "memory", "rules", "quick", "gpu"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--iterations", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        name, path, n_examples = options.peak
        config = AllocateConfig(device="cpu", examples=int(n_examples), total_tolerance=1e9)
        allocate(path, make_problem(name, options.data_dir), config)
        print(peak_resident())
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.repeats} repetitions\n")
    if "overhead" in options.only:
        print_overhead(options.data_dir, options.iterations, options.repeats)
    if "memory" in options.only:
        print_memory(options.data_dir)
    if "rules" in options.only:
        print_rules(options.data_dir)
    if "quick" in options.only:
        print(f"digits-fc, 300 iterations: {quick():.1f} s\n", flush=True)
    if "gpu" in options.only and torch.cuda.is_available():
        print_gpu(options.data_dir)


if __name__ == "__main__":
    main()
