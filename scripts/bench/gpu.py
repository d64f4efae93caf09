"""Test and measure lca on a GPU, and print one page.

    PYTHONPATH=scripts .venv/bin/python -m bench.gpu [--data-dir FOLDER] [--device cuda] [--minutes 9] [--out gpu.txt]

tests        All tests that need CUDA.
correctness  The same eight iterations, allocated on the GPU and on the CPU over 1,000 examples: Σ|A_GPU − A_CPU| / Σ|A|
             and the fraction of parameters with opposite signs. Target: a part difference of at most 0.1 %.
passes       Time of a full pass of each network: eager, as a CUDA graph, compiled, in TF32 and in bfloat16. The speed
             of the graph is also given as a fraction of the float32 peak, measured by multiplying two 4096² matrices.
audit        Mean part error of four iterations in each precision, against float32 with four times the subintervals.
             Without the dataset, the images are random, and the errors mean little.
recording    Time of a recorded training loop divided by that of a bare one, as the median of three pairs.
memory       Largest memory allocated on the GPU in an allocation of two iterations.

A part that fails is reported, and the others still run. No part begins after --minutes. Everything is printed as soon
as it is known and also written to --out, so that little is lost if the machine is taken away.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch

import lca
from bench import machine
from bench.passes import count_flops, make_scaled_problem, measure_peak_gflops, measure_seconds
from bench.record import make_problem, train
from lca.allocation.batch_size import choose_batch_format
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError
from lca.problem.objective import Objective
from lca.problem.problem import Problem
from lca.text import facts, size, table

NETWORKS = ("mnist-fc", "mnist-lenet", "cifar-allcnn", "cifar-vgg", "cifar-resnet", "charlm-transformer")
COMPARED = ("mnist-fc", "mnist-lenet", "cifar-resnet", "charlm-transformer")
RECORDED = ("mnist-fc", "mnist-lenet")
TARGET_DIFFERENCE = 1e-3
MODES: dict[str, dict[str, object]] = {
    "eager": {},
    "graph": {},
    "compiled": {"compiled": True},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
}


@dataclass(frozen=True)
class Page:
    """Runs the parts, prints their results and appends them to a file. No part begins after the deadline."""

    out: Path
    deadline: float

    def write(self, text: str) -> None:
        print(text, flush=True)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def run(self, title: str, part: Callable[[], str]) -> None:
        """Write what the part returns, or why it failed."""
        if time.monotonic() > self.deadline:
            self.write(f"\n{title}: not run, because the time is up")
            return
        begin = time.monotonic()
        try:
            text = part()
        except Exception as error:  # one failure must not end the page
            text = f"failed: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"
        self.write(f"\n{title} ({time.monotonic() - begin:.0f} s)\n{text}")


def run_tests() -> str:
    """Run the tests that need CUDA. Returns the last lines of their output."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", "-rA", "--tb=short"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "\n".join(ended.stdout.splitlines()[-40:])


def compare_with_cpu(name: str, data_dir: Path | None, device: str) -> list[str]:
    """Allocate the same iterations on the device and on the CPU. Returns a row of the table."""
    problem = make_problem(name, data_dir)
    values, changes = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        lca.train(problem, path, iterations=8, batch_size=250, learning_rate=0.01, device=device)
        for label, where in (("cpu", "cpu"), ("device", device)):
            lca.allocate(path, problem, name=label, device=where, examples=1_000, batch_size=1_000, audit=0)
            allocation = lca.open(path).allocation(label)
            values.append(np.asarray(allocation.lca[:], np.float64))
            changes.append(allocation.read("allocated").sum())
    cpu, found = values
    difference = np.abs(found - cpu).sum() / np.abs(cpu).sum()
    opposite = np.mean(np.sign(found) != np.sign(cpu))
    verdict = "yes" if difference <= TARGET_DIFFERENCE else "NO"
    return [name, f"{100 * difference:.4f}", f"{100 * opposite:.3f}", *(f"{x:.6f}" for x in changes), verdict]


def open_gradient(problem: Problem, device: torch.device, mode: str) -> FullGradient:
    objective = Objective(
        problem.model, problem.losses, tuple(x.to(device) for x in problem.train), weigh=problem.weigh
    )
    found = choose_batch_format(objective)
    return FullGradient(found.apply(objective), found.batch_size, **MODES[mode])  # type: ignore[arg-type]


def time_passes(name: str, data_dir: Path | None, device: torch.device, peak: float) -> Iterator[list[str]]:
    """Yield a row of the table of passes for each mode."""
    problem = make_scaled_problem(name, data_dir)
    problem.model.to(device)
    for mode in MODES:
        eager = patch("lca.allocation.full_gradient.capture", lambda function, device: (function, None))
        try:
            with open_gradient(problem, device, mode) as gradient, eager if mode == "eager" else nullcontext():
                float(gradient(gradient.theta).loss)  # captures or compiles
                seconds = min(measure_seconds(lambda: float(gradient(gradient.theta).loss)) for _ in range(5))
                notes = "; ".join(gradient.notes)
            on_device = replace(problem, train=tuple(x.to(device) for x in problem.train))
            gflops = count_flops(on_device, gradient.batch_size) / seconds / 1e9
        except Exception as error:  # such as a mode that the device lacks
            yield [name, mode, "", "", "", "", f"{type(error).__name__}: {str(error).splitlines()[0]}"]
            continue
        size = f"{gradient.batch_size:,}"
        yield [name, mode, size, f"{1e3 * seconds:.2f}", f"{gflops:.0f}", f"{gflops / peak:.2f}", notes]


def audit_precisions(name: str, data_dir: Path | None, device: torch.device) -> Iterator[list[str]]:
    """Yield a row of the table of audits for each precision."""
    problem = make_problem(name, data_dir)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        lca.train(problem, path, iterations=100, batch_size=250, learning_rate=0.01, device=str(device))
        for precision in ("fp32", "tf32", "bf16"):
            config = lca.AllocateConfig(
                name=precision, precision=precision, device=str(device), iterations="0:100:25", audit=1.0
            )
            try:
                summary = lca.allocate(path, problem, config)
            except LCAError as error:  # a precision that the device lacks
                yield [name, precision, "", "", str(error)]
                continue
            assert summary.audit is not None
            parts, signs = (100 * summary.audit.mean(figure).mean for figure in ("part_error", "sign_change"))
            yield [name, precision, f"{parts:.3f}", f"{signs:.3f}", f"{summary.largest_residual:.1e}"]


def compare_recording(name: str, data_dir: Path | None, device: torch.device) -> list[str]:
    """Time recorded and bare training loops in pairs. Returns a row of the table."""
    problem = make_scaled_problem(name, data_dir)
    problem.model.to(device)
    on_device = replace(problem, train=tuple(x.to(device) for x in problem.train))
    ratios, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        train(on_device, 50, None, "")  # warm-up
        for repeat in range(3):
            seconds = [train(on_device, 512, path, "zstd") for path in (None, Path(folder) / f"{repeat}.zarr")]
            ratios.append(seconds[1] / seconds[0])
            bare.append(1e3 * seconds[0] / 512)
    return [name, f"{median(bare):.2f}", f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]


def measure_memory(name: str, data_dir: Path | None, device: torch.device) -> list[str]:
    """Allocate two iterations. Returns a row of the table with the largest memory on the device."""
    problem = make_problem(name, data_dir)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        lca.train(problem, path, iterations=2, batch_size=250, learning_rate=0.01, device=str(device))
        torch.accelerator.reset_peak_memory_stats(device)
        lca.allocate(path, problem, device=str(device), audit=0)
        n_bytes = torch.accelerator.max_memory_allocated(device)
    return [name, size(sum(x.nbytes for x in problem.train)), size(n_bytes)]


def run_parts(page: Page, data_dir: Path | None, name: str) -> None:
    device = torch.empty(0, device=name).device

    def run_each(title: str, names: Sequence[str], header: list[str], rows: Callable[[str], list[list[str]]]) -> None:
        for network in names:
            page.run(f"{title}, {network}", partial(lambda network: table(header, rows(network)), network))

    page.run("tests", run_tests)
    header = ["network", "part difference (%)", "opposite signs (%)", "Σ A, CPU", "Σ A, device", "within the target"]
    run_each("correctness", COMPARED, header, lambda network: [compare_with_cpu(network, data_dir, name)])
    peak = measure_peak_gflops(device.type)
    page.write(f"\nfloat32 peak: {peak:,.0f} GFLOP/s")
    header = ["network", "mode", "batch", "pass (ms)", "GFLOP/s", "fraction of the peak", "notes"]
    run_each("passes", NETWORKS, header, lambda network: list(time_passes(network, data_dir, device, peak)))
    header = ["network", "precision", "part error (%)", "wrong signs (%)", "largest residual"]
    run_each("audit", COMPARED, header, lambda network: list(audit_precisions(network, data_dir, device)))
    header = ["network", "bare (ms per iteration)", "recorded/bare", "range"]
    run_each("recording", RECORDED, header, lambda network: [compare_recording(network, data_dir, device)])
    header = ["network", "training split", "largest memory on the device"]
    run_each("memory", NETWORKS, header, lambda network: [measure_memory(network, data_dir, device)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument("--device", default="cuda", help="Device to test and measure.")
    parser.add_argument("--minutes", type=float, default=9.0, help="Time after which no further part begins.")
    parser.add_argument("--out", type=Path, default=Path("gpu.txt"), help="File to which the page is appended.")
    options = parser.parse_args()
    page = Page(options.out, time.monotonic() + 60 * options.minutes)
    page.write(facts(machine.describe()))
    run_parts(page, options.data_dir, options.device)


if __name__ == "__main__":
    main()
