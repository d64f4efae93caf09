"""Measure speed and memory of `lca analyze all` on a large store, compared with only reading its arrays.

    PYTHONPATH=scripts .venv/bin/python -m bench.analyze [--gigabytes 20] [--folder FOLDER] [--repeats 3]

The synthetic store holds LCA, weights and gradient signs of 1.3 million parameters. Values have few mantissa bits, so
that 20 GB of raw data take 5 GB on disk. The bare read loads the same arrays one file at a time and does nothing else.
The two tasks alternate, each in a new process, and their speeds are compared by their median times. Target: at least
0.5 of the speed of the bare read, in at most 1 GB of memory. Expected on two cores: 0.57, 639 MB/s and 700 MB of
memory.

Takes about 8 minutes on two cores, most of which is spent on making the store.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from numcodecs.bitround import BitRound
from torch import nn
from tqdm import tqdm

import lca
from bench.machine import start_module
from lca.analysis import everything
from lca.model.parameters import build_table
from lca.runtime.host import get_peak_memory_bytes
from lca.store.allocation_writer import AllocationWriter
from lca.store.checksums import Array
from lca.store.run import Run
from lca.store.run_writer import create_run
from lca.text import size, table

LAYERS, WIDTH = 20, 256  # 20 dense layers of 256 × 256 and their biases: 1.3 M parameters
BITS = 4  # mantissa bits
NAMES = ("lca", "weights", "gradient_sign")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20, help="Size of the raw data, in GB.")
    parser.add_argument(
        "--folder", type=Path, help="Folder in which the store is made and kept. A temporary folder by default."
    )
    parser.add_argument("--repeats", type=int, default=3, help="Number of repetitions of each measurement.")
    parser.add_argument("--task", choices=["all", "read"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(time_task(options.folder / "run.zarr", options.task)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path = folder / "run.zarr"
        if not path.exists():
            make_store(path, options.gigabytes)
        run = lca.open(path)
        raw = sum(array.nbytes for array in get_arrays(run))
        print(
            f"{size(raw)} raw, {size(run.disk_bytes())} on disk: K = {run.parameters.size:,}, T = {run.n_iterations:,}"
        )
        figures: dict[str, list[dict[str, float]]] = {"read": [], "all": []}
        for _ in range(options.repeats):
            for task, found in figures.items():
                found.append(json.loads(start_module("bench.analyze", "--folder", str(folder), "--task", task)))
    rows = []
    for task, found in figures.items():
        seconds = [figure["seconds"] for figure in found]
        memory = max(figure["memory"] for figure in found)
        rates = [raw / s / 1e6 for s in seconds]
        spread = f"{min(rates):.0f} … {max(rates):.0f}"
        rows.append([task, f"{median(seconds):.1f}", f"{raw / median(seconds) / 1e6:.0f}", spread, size(memory)])
    print(table(["task", "seconds", "MB/s of raw data", "range", "peak memory"], rows))
    ratio = median(f["seconds"] for f in figures["read"]) / median(f["seconds"] for f in figures["all"])
    print(f"speed of `lca analyze all` relative to a bare read: {ratio:.2f} (target: at least 0.5)")


def get_arrays(run: Run) -> Iterator[Array]:
    allocation = run.allocation("train")
    return (run.weights if name == "weights" else getattr(allocation, name) for name in NAMES)


def time_task(path: Path, task: str) -> dict[str, float]:
    """Run a task. Returns its wall-clock seconds and the peak resident bytes of this process."""
    run = lca.open(path)
    begin = time.perf_counter()
    if task == "all":
        everything(run)
    else:
        for array in get_arrays(run):
            height, width = array.shards or array.chunks
            for top in range(0, array.shape[0], height):
                for left in range(0, array.shape[1], width):
                    array[top : top + height, left : left + width]
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "memory": get_peak_memory_bytes()}


def make_store(path: Path, gigabytes: float) -> None:
    """Make a complete run with one allocation. All blocks hold the same values, rotated along the parameters."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    parameters = build_table(model)
    K = parameters.size
    run_writer = create_run(path, parameters, {"problem": "synthetic"})
    run, length = run_writer.run, run_writer.run.blocks.length
    T = max(round(gigabytes * 1e9 / (8.125 * K)) // length, 1) * length
    random = np.random.default_rng(0)
    rounding = BitRound(keepbits=BITS)
    lca_rows, theta_rows = (
        rounding.decode(rounding.encode((random.normal(size=(length, K)) * scale).astype(np.float32)))
        for scale in (1e-6, 1e-1)
    )
    run.weights.resize((K, T + 1))
    run_writer.set_attributes(iterates=T + 1, status="complete")
    attributes = {"split": "train", "rule": "simpson", "examples": 1, "examples_in_split": 1, "batch_size": 1}
    attributes |= {"tolerance": 1e-3, "total_tolerance": 1e-2}
    allocation = run_writer.create_allocation("train", attributes, ["lca", "gradient_sign"])
    writer = AllocationWriter(allocation)
    small = {
        name: allocation.read_block(0, [name])[name] for name in allocation.arrays if name not in (*NAMES, "blocks")
    }
    for block, span in enumerate(tqdm(allocation.blocks_of_run, "make", disable=not sys.stderr.isatty())):
        shift = 4_099 * block
        rows, theta = np.roll(lca_rows, shift, axis=1), np.roll(theta_rows, shift, axis=1)
        run.weights[:, span] = theta.T
        n = length + (span.stop == T)
        others = {
            name: np.resize(np.ones(1), (len(values[:length]), *values.shape[1:])) for name, values in small.items()
        }
        others |= {name: np.ones((n, *others[name].shape[1:])) for name in ("loss", "gradient_norm")}
        others["gradient_sign"] = np.packbits(np.resize(rows < 0, (n, K)), axis=1)
        writer.write_block(block, {**others, "lca": rows})
    run.weights[:, T] = theta_rows[0]
    writer.finish()


if __name__ == "__main__":
    main()
