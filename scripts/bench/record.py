"""Measure the cost of recording: a bare training loop, compared with the same loop recorded with each codec.

    PYTHONPATH=scripts .venv/bin/python -m bench.record [--data-dir FOLDER] [--repeats 5] [--iterations 512]
                                                           [--problem NAME …]

For each problem and codec, the table shows

- the wall time of the recorded loop divided by that of the bare loop: the median and the range over interleaved pairs.
  The recorded time includes everything from creating the store to writing its last byte.
- the bytes on disk divided by the raw bytes.

A second table shows the peak resident memory of processes that record T and 4 T iterations. Without the dataset, random
images replace it. The times are then valid, but the sizes are not.
"""

import argparse
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median

import torch

import lca
from bench.machine import start_module
from lca.errors import LCAError
from lca.model.parameters import build_table
from lca.problem.problem import Problem
from lca.problem.zoo import presets
from lca.runtime.host import get_peak_memory_bytes
from lca.store.chunks import CODECS
from lca.text import size, table
from lca.training.batch_order import draw_indices
from lca.training.config import TrainConfig
from lca.training.optimizers import make_optimizer

CONFIG = TrainConfig(device="cpu")


def make_problem(name: str, data_dir: Path | None) -> Problem:
    try:
        return lca.load(name, data_dir=data_dir)
    except LCAError:
        print(
            f"{name}: no dataset found. Random images replace it, so sizes and errors are meaningless.", file=sys.stderr
        )
        preset, generator = presets.find(name), torch.Generator().manual_seed(0)
        n, shape = preset.data.n_train, preset.data.shapes[0]
        labels = torch.randint(10, (n,), generator=generator)
        return Problem(preset.network(), train=(torch.rand(n, *shape, generator=generator), labels))


def train(problem: Problem, iterations: int, path: Path | None, codec: str) -> float:
    """Train and return the wall-clock time in seconds. The run is recorded if a path is given."""
    model, data = problem.model.train(), problem.scale(problem.train) if problem.scale else problem.train
    optimizer = make_optimizer(model, CONFIG)
    begin = time.perf_counter()

    def loop(recorder: lca.Recorder | None) -> None:
        for index in islice(draw_indices(len(data[0]), CONFIG.batch_size, 0), iterations):
            optimizer.zero_grad()
            loss = problem.losses(model, tuple(x[index] for x in data)).mean()
            if recorder:
                recorder.log(loss=loss)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    if path:
        with lca.Recorder(path, model, codec=codec) as recorder:
            recorder.attach(optimizer)
            loop(recorder)
    else:
        loop(None)
    return time.perf_counter() - begin


def compare(name: str, data_dir: Path | None, iterations: int, repeats: int, codecs: list[str]) -> list[list[str]]:
    """Time recorded and bare loops in pairs. Returns one row of the table for each codec."""
    ratios: dict[str, list[float]] = {codec: [] for codec in codecs}
    sizes, bare_ms = {}, []
    problem = make_problem(name, data_dir)
    fresh = {key: value.clone() for key, value in problem.model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        train(problem, 20, None, "")  # warm-up
        for repeat in range(repeats):
            for codec in codecs:
                path = Path(folder) / f"{codec}-{repeat}.zarr"
                seconds = []
                for target in (None, path):
                    problem.model.load_state_dict(fresh)
                    seconds.append(train(problem, iterations, target, codec))
                ratios[codec].append(seconds[1] / seconds[0])
                bare_ms.append(1e3 * seconds[0] / iterations)
                run = lca.open(path)
                sizes[codec] = run.disk_bytes("weights/c") / (4 * run.parameters.size * run.n_iterates)
    K = build_table(problem.model).size
    return [
        [
            f"{name} ({K:,})",
            codec,
            f"{median(bare_ms):.2f}",
            f"{median(ratios[codec]):.2f}",
            f"{min(ratios[codec]):.2f} … {max(ratios[codec]):.2f}",
            f"{sizes[codec]:.3f}",
            f"{4 * sizes[codec]:.2f}",
        ]
        for codec in codecs
    ]


def measure_peak_memory(name: str, data_dir: Path | None, iterations: int) -> int:
    """Return the peak resident bytes of a new process that records this number of iterations."""
    arguments = ["--peak", name, "--iterations", str(iterations)]
    arguments += ["--data-dir", str(data_dir)] if data_dir else []
    return int(start_module("bench.record", *arguments).split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument("--repeats", type=int, default=5, help="Number of interleaved pairs.")
    parser.add_argument(
        "--iterations", type=int, default=512, help="Number of iterations of mnist-fc. Other problems run half as many."
    )
    parser.add_argument("--problem", nargs="+", default=["mnist-fc", "mnist-lenet"], help="Problems to train.")
    parser.add_argument("--codec", nargs="+", default=list(CODECS), help="Codecs to compare.")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        with tempfile.TemporaryDirectory() as folder:
            train(make_problem(options.peak, options.data_dir), options.iterations, Path(folder) / "run.zarr", "zstd")
        print(get_peak_memory_bytes())
        return
    header = ["problem (K)", "codec", "bare (ms per iteration)", "recorded/bare", "range", "disk/raw"]
    header += ["bytes per parameter and iterate"]
    rows, memory = [], []
    for name in options.problem:
        T = options.iterations if name.endswith("-fc") else options.iterations // 2
        rows += compare(name, options.data_dir, T, options.repeats, options.codec)
        memory.append(
            [name, *(f"{size(measure_peak_memory(name, options.data_dir, n))} at T = {n}" for n in (T, 4 * T))]
        )
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.repeats} interleaved pairs each\n")
    print(table(header, rows), "\n")
    print(table(["peak resident memory", "T", "4 T"], memory))


if __name__ == "__main__":
    main()
