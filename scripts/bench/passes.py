"""Building blocks of the measurements: problems, recorded runs, and the timing of full-set passes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

import lca
from bench.record import make_problem
from lca.allocation.batch_size import BatchFormat
from lca.allocation.full_gradient import FullGradient
from lca.model.evaluation_mode import evaluation_mode
from lca.problem.batches import split_batch, take
from lca.problem.problem import Problem


def make_scaled_problem(name: str, data_dir: Path | None, n_examples: int | None = None) -> Problem:
    """Load a built-in problem, or its first examples only, with the images already converted to floats."""
    problem = make_problem(name, data_dir)
    train = take(problem.train, slice(n_examples))
    return replace(problem, train=problem.scale(train) if problem.scale else train, scale=None)


def record_run(problem: Problem, path: Path, iterations: int, learning_rate: float = 0.01) -> None:
    options = {"iterations": iterations, "learning_rate": learning_rate, "device": "cpu", "batch_size": 250}
    lca.train(problem, path, lca.TrainConfig(**options))  # type: ignore[arg-type]


def measure_seconds(function: Callable[[], object]) -> float:
    """Return the wall-clock time of a call, in seconds."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def run_bare_passes(problem: Problem, batch_format: BatchFormat, n_passes: int) -> None:
    """Compute the loss and its gradient over the training split n_passes times, in a plain loop."""
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
    """Yield a list that grows by one element with every pass over all n_examples inside the context.

    The trials of batch sizes use fewer examples and are not counted.
    """
    passes: list[int] = []
    evaluate = FullGradient._evaluate

    def count(self: FullGradient, *arguments: object) -> object:
        if self.objective.n_examples == n_examples:
            passes.append(1)
        return evaluate(self, *arguments)  # type: ignore[arg-type]

    with patch.object(FullGradient, "_evaluate", count):
        yield passes


def measure_peak_gflops(device: str = "cpu") -> float:
    """Return the speed of a float32 product of two 4096² matrices, the best of four, in GFLOP/s."""
    a = torch.randn(4096, 4096, device=device)

    def multiply() -> None:
        a.mm(a)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * 4096**3 / min(measure_seconds(multiply) for _ in range(4)) / 1e9


def count_flops(problem: Problem, batch_size: int) -> int:
    """Count the floating-point operations of one pass over the training split."""
    with FlopCounterMode(display=False) as flops:
        run_bare_passes(problem, BatchFormat(batch_size), n_passes=1)
    return int(flops.get_total_flops())
