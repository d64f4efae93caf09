"""Measure how an allocation scales over two processes, and simulate it for up to 1,024 workers.

    PYTHONPATH=scripts .venv/bin/python -m bench.workers [--data-dir FOLDER] [--examples 20000] [--out scaling.png]

Measured: the throughput of `torchrun --nproc-per-node=2 -m lca allocate` with one thread per process, divided by that
of `lca allocate` with two threads, on mnist-fc. Each command allocates a short and a long part of the same run, and the
throughput follows from the difference, so that the time to start is excluded. The ratio is the median of interleaved
pairs. Target: at least 0.95 on two cores.

Simulated: the queue of `lca.runtime.workers`, in which each worker takes the next open block, and for comparison a
static division, in which each worker receives the same number of consecutive blocks in advance. The simulation uses
pass times and numbers of subintervals measured on this machine, for short and long runs, with and without refinement.
The speed-ups include the time that a worker takes to start.

Takes about 10 minutes on two cores. Without the dataset, random images replace it.
"""

import argparse
import heapq
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import lca
from bench.passes import make_scaled_problem, measure_seconds, record_run
from bench.record import make_problem
from lca.allocation.allocate import allocate
from lca.allocation.batch_size import choose_batch_format
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.problem.objective import Objective
from lca.store.blocks import ceil_div
from lca.store.chunks import BLOCK
from lca.text import table

Floats = NDArray[np.float64]
WORKERS = [2**i for i in range(11)]


def time_command(path: Path, data_dir: Path | None, examples: int, iterations: int, processes: int) -> float:
    """Return the wall-clock time of `lca allocate` with one or two processes, in seconds."""
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
    options = ["--examples", str(examples), "--iterations", f"0:{iterations}", "--audit", "0", "--batch-size", "1000"]
    options += ["--data-dir", str(data_dir)] if data_dir else []
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, *launcher, "-m", "lca", "allocate", str(path), "--overwrite", *options]
    return measure_seconds(lambda: subprocess.run(command, check=True, capture_output=True, env=environment))


def measure_throughputs(data_dir: Path | None, examples: int, repeats: int) -> tuple[list[float], list[float]]:
    """Return the iterations per second of one process with two threads, and of two with one each, for each repeat."""
    short, long = 2 * BLOCK, 8 * BLOCK
    found: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        record_run(make_problem("mnist-fc", data_dir), path, long)
        for _ in range(repeats):
            for processes in (1, 2):
                times = [time_command(path, data_dir, examples, T, processes) for T in (short, long)]
                found[processes].append((long - short) / (times[1] - times[0]))
    return found[1], found[2]


def measure(data_dir: Path | None) -> tuple[Floats, NDArray[np.int64]]:
    """Measure the times of full passes of mnist-fc, and the subintervals per iteration under a strict tolerance."""
    problem = make_scaled_problem("mnist-fc", data_dir, 5_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        record_run(problem, path, 256, learning_rate=0.1)
        allocate(path, problem, AllocateConfig(tolerance=2e-5, total_tolerance=1e9, audit=0, device="cpu"))
        intervals = np.asarray(lca.open(path).allocation("train").intervals[:], np.int64)
    whole = make_scaled_problem("mnist-fc", data_dir)
    objective = Objective(whole.model, whole.losses, whole.train)
    with FullGradient(objective, choose_batch_format(objective).batch_size) as gradient:
        times = [measure_seconds(lambda: float(gradient(gradient.theta).loss)) for _ in range(41)][1:]
    return np.array(times), intervals


def draw_block_seconds(pass_s: Floats, intervals: Sequence[int] | NDArray[np.int64], T: int) -> Floats:
    """Sample the time of each block of a run of T iterations. The measured intervals are stretched to that length."""
    random = np.random.default_rng(0)
    n = np.asarray(intervals)[np.arange(T) * len(intervals) // T]
    iteration_s = np.array([random.choice(pass_s, k).sum() for k in n])
    return np.add.reduceat(iteration_s, np.arange(0, T, BLOCK))


def simulate_queue(blocks: Floats, n_workers: int) -> float:
    """Return the seconds until all blocks are done, if each worker takes the next open block."""
    free = [0.0] * n_workers
    for block_s in blocks:
        heapq.heappush(free, heapq.heappop(free) + block_s)
    return max(free)


def simulate_division(blocks: Floats, n_workers: int) -> float:
    """Return the seconds until all blocks are done, if each worker receives consecutive blocks in advance."""
    return max(float(part.sum()) for part in np.array_split(blocks, n_workers))


def compute_speed_ups(blocks: Floats, start_s: float) -> dict[str, list[float]]:
    alone = start_s + blocks.sum()
    return {
        "queue": [alone / (start_s + simulate_queue(blocks, n)) for n in WORKERS],
        "static": [alone / (start_s + simulate_division(blocks, n)) for n in WORKERS],
    }


def draw(curves: dict[tuple[int, str], dict[str, list[float]]], out: Path) -> None:
    figure = Figure(figsize=(9, 4), layout="constrained")
    lengths = sorted({T for T, _ in curves})
    for axes, T in zip(figure.subplots(1, len(lengths), sharey=True), lengths, strict=True):
        axes.plot(WORKERS, WORKERS, color="#c9c4b8", linewidth=1, label="ideal")
        n_blocks = ceil_div(T, BLOCK)
        axes.axhline(n_blocks, color="#c9c4b8", linewidth=1, linestyle=":")
        axes.text(1, n_blocks * 1.05, f"{n_blocks:,} blocks", fontsize=8, color="#6b675f")
        for kind, color in (("two passes per iteration", "#2a9d4e"), ("refined", "#d1495b")):
            for division, style in (("queue", "-"), ("static", "--")):
                axes.plot(WORKERS, curves[T, kind][division], style, color=color, label=f"{kind}, {division}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_title(f"{T:,} iterations", loc="left", fontsize=10)
        axes.set_xlabel("workers")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("speed-up")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument("--examples", type=int, default=20_000, help="Number of mnist-fc examples in the measurement.")
    parser.add_argument("--repeats", type=int, default=3, help="Number of interleaved pairs.")
    parser.add_argument("--start", type=float, default=10.0, help="Simulated startup time of a worker, in seconds.")
    parser.add_argument("--out", type=Path, default=Path("scaling.png"), help="File of the figure.")
    parser.add_argument("--only", choices=["measured", "simulated"], help="Run only this part.")
    options = parser.parse_args()
    if options.only != "simulated":
        one, two = measure_throughputs(options.data_dir, options.examples, options.repeats)
        ratios = [b / a for a, b in zip(one, two, strict=True)]
        print(f"one process, {torch.get_num_threads()} threads: {median(one):.2f} iterations per second")
        print(f"two processes, 1 thread each: {median(two):.2f} iterations per second")
        spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
        print(f"ratio of the throughputs: {median(ratios):.2f} ({spread}; target: at least 0.95)\n", flush=True)
    if options.only != "measured":
        begin = time.perf_counter()
        pass_s, intervals = measure(options.data_dir)
        curves, rows = {}, []
        for T in (4_500, 100_000):
            for kind, n_intervals in (("two passes per iteration", np.full(1, 2)), ("refined", intervals)):
                curves[T, kind] = compute_speed_ups(draw_block_seconds(pass_s, n_intervals, T), options.start)
                for division, values in curves[T, kind].items():
                    rows.append([f"{T:,}", kind, division, *(f"{value:.1f}" for value in values)])
        counts = ", ".join(f"{n} ({(intervals == n).sum()} iterations)" for n in np.unique(intervals))
        print(f"pass {1e3 * pass_s.mean():.0f} ± {1e3 * pass_s.std(ddof=1):.0f} ms, subintervals: {counts}")
        print(table(["iterations", "cost", "division", *map(str, WORKERS)], rows))
        draw(curves, options.out)
        print(f"wrote {options.out} after {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
