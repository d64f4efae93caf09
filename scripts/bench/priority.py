"""Measure what the priority of the recorder's writing threads costs and gains, with and without other load.

    PYTHONPATH=scripts .venv/bin/python -m bench.priority [--data-dir FOLDER] [--repeats 5] [--iterations 1000]
                                                          [--problem NAME …]

The recorder gives its threads the lowest priority. For each problem, the table shows the wall time of the recorded
training loop divided by that of the bare loop, with the lowest and with the usual priority of these threads: the median
and the range over interleaved repetitions. "Load" is the number of other processes that keep a core busy meanwhile.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from unittest.mock import patch

from bench.record import make_problem, train
from lca.problem.problem import Problem
from lca.text import table

USUAL = "lca.recording.block_writer._lower_priority"


@contextmanager
def keep_busy(n: int) -> Iterator[None]:
    """Run n processes that keep a core busy each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(problem: Problem, iterations: int, load: int) -> tuple[float, float]:
    """Return the time with the lowest and with the usual priority, each divided by the time without recording."""
    with tempfile.TemporaryDirectory() as folder, keep_busy(load):
        bare = train(problem, iterations, None, "zstd")
        times = []
        for name, context in (("low", nullcontext()), ("usual", patch(USUAL, lambda: None))):
            with context:
                times.append(train(problem, iterations, Path(folder) / f"{name}.zarr", "zstd") / bare)
    return times[0], times[1]


def describe(ratios: list[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="Folder of the datasets.")
    parser.add_argument("--repeats", type=int, default=5, help="Number of repetitions.")
    parser.add_argument("--iterations", type=int, default=1000, help="Iterations of each training.")
    parser.add_argument("--problem", nargs="*", default=["digits-fc", "mnist-fc"], help="Problems to train.")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.problem:
        problem = make_problem(name, arguments.data_dir)
        for load in (0, os.cpu_count() or 1):
            pairs = [measure(problem, arguments.iterations, load) for _ in range(arguments.repeats)]
            low, usual = zip(*pairs, strict=True)
            rows.append([name, str(load), describe(list(low)), describe(list(usual))])
    print(table(["problem", "load", "lowest priority", "usual priority"], rows))


if __name__ == "__main__":
    main()
