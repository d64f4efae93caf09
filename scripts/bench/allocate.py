"""Measure an allocation: overhead, speed relative to the hardware, memory, and the accuracy of each rule.

    PYTHONPATH=scripts .venv/bin/python -m bench.allocate [--data-dir FOLDER] [--only overhead memory …] [--repeats 3]

overhead  Wall time of a complete `lca.allocate`, which includes the trials of batch sizes, the preflight and the audit,
          divided by the time of a bare loop with the same number of full-set passes at the same batch size. The bare
          loop is timed immediately before and after each allocation. Target: at most 1.05. The table also shows the
          speed of a bare pass as a fraction of the float32 peak, which is measured by multiplying two 4096² matrices
          with the same number of threads. Target: at least 0.70 for mnist-fc.
memory    Peak resident memory of a process that allocates T = 64 iterations, and of one with T = 256. Target: at most
          1 GB more than the data: the split as stored, plus the examples in use as floats.
rules     Cost, residual and error of each rule and precision, for the same 64 iterations of mnist-fc.
quick     Wall time of the command that allocates the 300 iterations of digits-fc. Target: at most 10 s.

Takes about 25 minutes on two cores. Without the dataset, random images replace it, and only the times are valid. The
part `rules` needs the dataset: on random images, the preflight may reject the loss, because its slope is nearly zero.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from bench.machine import start_module
from bench.passes import (
    count_flops,
    count_passes,
    make_scaled_problem,
    measure_peak_gflops,
    measure_seconds,
    record_run,
    run_bare_passes,
)
from bench.record import make_problem
from lca.allocation.allocate import allocate
from lca.allocation.batch_size import choose_batch_format
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.model.evaluation_mode import evaluation_mode
from lca.model.parameters import flatten
from lca.problem.objective import Objective
from lca.problem.problem import Problem
from lca.runtime.host import get_peak_memory_bytes
from lca.store.summary import Summary
from lca.text import size, table

TARGET_OVERHEAD, TARGET_PEAK, TARGET_MEMORY, TARGET_QUICK_S = 1.05, 0.70, 1e9, 10


def measure_overhead(name: str, data_dir: Path | None, n_examples: int, iterations: int, repeats: int) -> list[str]:
    """Compare allocations of a problem with bare passes. Returns a row of the table."""
    problem = make_scaled_problem(name, data_dir, n_examples)
    config = AllocateConfig(tolerance=1e9, total_tolerance=1e9, device="cpu")
    ratios, pass_s, peak = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        record_run(problem, path, iterations)
        with evaluation_mode(problem.model):
            batch_format = choose_batch_format(Objective(problem.model, problem.losses, problem.train))
        n_bare = max(3, iterations // 6)

        def time_bare_pass() -> float:
            return measure_seconds(lambda: run_bare_passes(problem, batch_format, n_bare)) / n_bare

        time_bare_pass()  # warm-up
        for _ in range(repeats):
            before = time_bare_pass()
            peak.append(measure_peak_gflops())
            with count_passes(n_examples) as passes:
                allocate_s = measure_seconds(lambda: allocate(path, problem, config, overwrite=True))
            pass_s += [before, time_bare_pass()]
            ratios.append(allocate_s / len(passes) / ((pass_s[-2] + pass_s[-1]) / 2))
    gflops = count_flops(problem, batch_format.batch_size) / median(pass_s) / 1e9
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


def measure_peak_memory(name: str, data_dir: Path | None, n_examples: int, iterations: int) -> tuple[int, int]:
    """Return the peak resident bytes of a new process that allocates the iterations, and the bytes of the data.

    The data are the split as stored, plus the examples in use as floats.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, problem = Path(folder) / "run.zarr", make_problem(name, data_dir)
        record_run(problem, path, iterations)
        arguments = ["--peak", name, str(path), str(n_examples)]
        arguments += ["--data-dir", str(data_dir)] if data_dir else []
        in_use = make_scaled_problem(name, data_dir, n_examples).train
    peak = int(start_module("bench.allocate", *arguments).split()[-1])
    return peak, sum(x.nbytes for x in (*problem.train, *in_use))


def measure_rules(data_dir: Path | None, iterations: str) -> list[list[str]]:
    """Allocate the iterations with each rule and precision. Returns one row of the table for each."""
    problem = make_scaled_problem("mnist-fc", data_dir)
    variants = [("first-order", "fp32"), ("trapezoid", "fp32"), ("simpson", "fp32"), ("simpson", "bf16")]
    if torch.cuda.is_available():
        variants.insert(3, ("simpson", "tf32"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        record_run(problem, path, 256, learning_rate=0.05)
        for rule, precision in variants:
            config = AllocateConfig(
                name=f"{rule}-{precision}",
                rule=rule,
                precision=precision,
                iterations=iterations,
                audit=0.1,
                tolerance=1e9,  # no refinement, so that the rules themselves are compared
                total_tolerance=1e9,
            )
            summary = allocate(path, problem, config)
            rows.append([rule, precision, f"{measure_pass_ms(problem, config):.1f}", *format_errors(summary)])
    return rows


def format_errors(summary: Summary) -> list[str]:
    assert summary.audit is not None
    parts, signs, shift = (summary.audit.mean(figure).mean for figure in ("part_error", "sign_change", "helping_shift"))
    return [
        f"{summary.gradients_per_iteration:.0f}",
        f"{summary.largest_residual:.1e}",
        f"{100 * summary.relative_residual:.3f}",
        f"{100 * parts:.2f}",
        f"{100 * signs:.2f}",
        f"{shift:+.3f}",
    ]


def measure_pass_ms(problem: Problem, config: AllocateConfig) -> float:
    """Return the time of a full-set pass in milliseconds, the best of six."""
    device = next(problem.model.parameters()).device
    objective = Objective(problem.model, problem.losses, tuple(x.to(device) for x in problem.train))
    batch_format = choose_batch_format(objective)
    with FullGradient(batch_format.apply(objective), batch_format.batch_size, precision=config.precision) as gradient:
        return 1e3 * min(measure_seconds(lambda: float(gradient(gradient.theta).loss)) for _ in range(6))


def time_quick_allocation() -> float:
    """Return the wall-clock time of `lca allocate` for 300 iterations of digits-fc, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "digits.zarr")
        lca = [sys.executable, "-m", "lca"]
        subprocess.run([*lca, "train", "digits-fc", "--out", path], check=True, capture_output=True)
        return measure_seconds(lambda: subprocess.run([*lca, "allocate", path], check=True, capture_output=True))


def print_overhead(data_dir: Path | None, iterations: int, repeats: int) -> None:
    sets = [("mnist-fc", 55_000), ("mnist-lenet", 2_000), ("mnist-lenet", 500), ("digits-resnet", 1_500)]
    rows = [measure_overhead(name, data_dir, N, iterations, repeats) for name, N in sets]
    header = ["problem (K)", "examples", "batch", "pass (ms)", "allocate/bare", "range", "GFLOP/s", "fraction of peak"]
    print(table(header, rows))
    targets = f"at most {TARGET_OVERHEAD} for allocate/bare, at least {TARGET_PEAK} of the peak for mnist-fc"
    print(f"Target: {targets}.\n", flush=True)


def print_memory(data_dir: Path | None) -> None:
    rows = []
    for name, N in (("mnist-fc", 55_000), ("mnist-lenet", 500)):
        peaks, (split, _) = zip(*(measure_peak_memory(name, data_dir, N, T) for T in (64, 256)), strict=True)
        rows.append([name, size(split), *map(size, peaks), size(max(peaks) - split)])
    print(table(["peak memory", "split", "T = 64", "T = 256", "peak − split"], rows))
    print(f"Target: at most {size(TARGET_MEMORY)} for peak − split.\n", flush=True)


def print_rules(data_dir: Path | None) -> None:
    header = [
        "rule",
        "precision",
        "pass (ms)",
        "gradients per iteration",
        "largest residual",
        "cumulative residual (%)",
    ]
    header += ["error of the parts (%)", "wrong signs (%)", "helping (points)"]
    print(table(header, measure_rules(data_dir, "100:164")), "\n", flush=True)


def main() -> None:
    parts = ["overhead", "memory", "rules", "quick"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="Measurements to run.")
    parser.add_argument(
        "--iterations", type=int, default=64, help="Number of iterations of the runs that measure the overhead."
    )
    parser.add_argument("--repeats", type=int, default=3, help="Number of repetitions of each overhead measurement.")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        name, path, n_examples = options.peak
        config = AllocateConfig(device="cpu", examples=int(n_examples), total_tolerance=1e9)
        allocate(path, make_problem(name, options.data_dir), config)
        print(get_peak_memory_bytes())
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.repeats} repetitions\n")
    if "overhead" in options.only:
        print_overhead(options.data_dir, options.iterations, options.repeats)
    if "memory" in options.only:
        print_memory(options.data_dir)
    if "rules" in options.only:
        print_rules(options.data_dir)
    if "quick" in options.only:
        seconds = time_quick_allocation()
        print(
            f"lca allocate, digits-fc, 300 iterations: {seconds:.1f} s (target: at most {TARGET_QUICK_S} s)\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
