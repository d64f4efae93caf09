"""Measure how long commands that only read a run take, compared with importing the packages that they need.

    PYTHONPATH=scripts .venv/bin/python -m bench.start [--repeats 7]

The run has 12 allocated iterations of digits-fc. Each command runs in a new process. The commands alternate, so that a
temporary slowdown of the machine affects all of them. The table shows the median wall time in seconds, and the median
ratio to the time of `import numpy, zarr` in the same round.

Target: `lca info` at most 1.5 times `import numpy, zarr`, and `lca analyze layers` at most 0.5 s more than `lca info`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import lca
from lca.text import table

IMPORTS = "import numpy, zarr"
TARGET_RATIO, TARGET_S = 1.5, 0.5


def make_run(path: Path) -> None:
    """Make a run that is so small that the time to start dominates."""
    lca.train(lca.load("digits-fc"), path, iterations=12, device="cpu")
    lca.allocate(path, lca.load("digits-fc"), audit=0, device="cpu")


def measure(command: list[str]) -> float:
    """Return the wall-clock time of a process, in seconds."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="Number of rounds.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.zarr"
        make_run(run)
        python, shell = [sys.executable, "-c"], [str(Path(sys.executable).with_name("lca"))]
        commands = {
            IMPORTS: [*python, IMPORTS],
            "import torch": [*python, "import torch"],
            "lca --help": [*shell, "--help"],
            "lca info": [*shell, "info", str(run)],
            "lca verify": [*shell, "verify", str(run)],
            "lca analyze layers": [*shell, "analyze", "layers", str(run)],
            "lca plot layers": [*shell, "plot", "layers", str(run), "--out", str(Path(folder) / "layers.png")],
        }
        for command in commands.values():  # warm-up: the first start fills the file cache
            measure(command)
        rounds = [{name: measure(command) for name, command in commands.items()} for _ in range(arguments.repeats)]
    seconds = {name: median(each[name] for each in rounds) for name in commands}
    ratios = {name: median(each[name] / each[IMPORTS] for each in rounds) for name in commands}
    rows = [[name, f"{seconds[name]:.2f}", f"{ratios[name]:.2f}"] for name in commands]
    print(table(["command", "seconds", f"relative to {IMPORTS}"], rows))
    more = median(each["lca analyze layers"] - each["lca info"] for each in rounds)
    print(f"\nlca info: {ratios['lca info']:.2f} times as long as {IMPORTS} (target: at most {TARGET_RATIO})")
    print(f"lca analyze layers: {more:.2f} s more than lca info (target: at most {TARGET_S} s)")


if __name__ == "__main__":
    main()
