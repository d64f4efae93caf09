"""What recording costs: a bare training loop against the same loop recorded, per codec, in one run.

    PYTHONPATH=scripts .venv/bin/python -m bench.record [--data-dir FOLDER] [--repeats 5] [--iterations 512]
                                                           [--problem NAME …]

Prints, for each problem and codec, the wall time of the recorded loop over that of the bare one (the median of the
ratios of interleaved pairs, with their range; the recorded time has everything in it, from making the store to its last
byte), bytes on disk over raw bytes, and the peak resident memory of a process that records T and one that records 4 T.
Without the data set, random images take its place: the times hold, the sizes do not.
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
from bench.machine import peak_resident, start_module
from lca.errors import LCAError
from lca.model.parameters import build_table
from lca.problem.problem import Problem
from lca.problem.zoo import presets
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
        print(f"{name}: no data found, random images instead; sizes mean nothing", file=sys.stderr)
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(55_000, 1, 28, 28, generator=generator)
        return Problem(presets.find(name).network(), train=(x, torch.randint(10, (55_000,), generator=generator)))


def train(problem: Problem, iterations: int, path: Path | None, codec: str) -> float:
    """Wall seconds of the loop, recorded into path if there is one."""
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
    """A row of the table for each codec."""
    ratios: dict[str, list[float]] = {codec: [] for codec in codecs}
    sizes, bare_ms = {}, []
    problem = make_problem(name, data_dir)
    fresh = {key: value.clone() for key, value in problem.model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        train(problem, 20, None, "")  # warm up
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


def peak_memory(name: str, data_dir: Path | None, iterations: int) -> int:
    """Peak resident bytes of a fresh process that records so many iterations."""
    arguments = ["--peak", name, "--iterations", str(iterations)]
    arguments += ["--data-dir", str(data_dir)] if data_dir else []
    return int(start_module("bench.record", *arguments).split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=512, help="of mnist-fc; mnist-lenet gets half as many")
    parser.add_argument("--problem", nargs="+", default=["mnist-fc", "mnist-lenet"])
    parser.add_argument("--codec", nargs="+", default=list(CODECS))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        with tempfile.TemporaryDirectory() as folder:
            train(make_problem(options.peak, options.data_dir), options.iterations, Path(folder) / "run.zarr", "zstd")
        print(peak_resident())
        return
    header = ["problem (K)", "codec", "bare ms/it", "recorded/bare", "range", "disk/raw", "bytes/K/iterate"]
    rows, memory = [], []
    for name in options.problem:
        T = options.iterations if name.endswith("-fc") else options.iterations // 2
        rows += compare(name, options.data_dir, T, options.repeats, options.codec)
        memory.append([name, *(f"{size(peak_memory(name, options.data_dir, n))} at T = {n}" for n in (T, 4 * T))])
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.repeats} interleaved pairs each\n")
    print(table(header, rows), "\n")
    print(table(["peak resident memory", "T", "4 T"], memory))


if __name__ == "__main__":
    main()
