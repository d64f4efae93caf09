"""Measure a pass that divides the slopes among classes, compared with a pass without classes.

    OMP_NUM_THREADS=1 PYTHONPATH=scripts .venv/bin/python -m bench.by_class [--data-dir FOLDER] [--repeats 3]
                                                                            [--only NAME …]

Each row shows the processor time of a pass over a few examples by each of three methods, divided by that of a pass
without classes. It is the median over passes that alternate. Processor time depends less on other load than wall time.

separate     Each class goes through the model by itself. Requires one class per example, and losses that do not depend
             on the other examples of the batch.
per class    One backward pass for each class in a batch.
per tensor   One second-order backward pass for each parameter tensor and each of two directions.

The method that `lca` chooses is marked with *. The last rows have more groups than the built-in problems: the next
character, or 40 or 100 arbitrary groups. Takes about 15 minutes on one core. Without the datasets, random images
replace MNIST, and the rows of CIFAR-10 fail.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor

from bench.machine import describe
from bench.passes import make_scaled_problem
from bench.stream import ByBatch
from lca.allocation import class_slopes
from lca.allocation.full_gradient import FullGradient
from lca.allocation.pieces import Piece
from lca.problem.batches import Batch
from lca.problem.objective import Objective, prepare
from lca.problem.streaming import StreamedDataset
from lca.text import facts, table

Groups = Callable[[Batch], Tensor]
CPU = torch.device("cpu")
LIMITS = {"per class": float("inf"), "per tensor": 0.0}  # values of CLASSES_PER_TENSOR that force a method


@dataclass(frozen=True)
class Case:
    """A built-in problem, the number of examples and the batch size, and any groups other than those of the problem."""

    problem: str
    n_examples: int
    batch_size: int
    groups: Groups | None = None
    streamed: bool = False


def number_arbitrarily(n: int) -> Groups:
    """Return a function that divides images into n groups, regardless of what they show."""

    def number(batch: Batch) -> Tensor:
        pixels = batch[0].flatten(1)
        hashes: Tensor = (1_000 * pixels @ torch.arange(pixels.shape[1]).cos()).long() % n
        return hashes

    return number


CASES = {
    "mnist-fc": Case("mnist-fc", 10_000, 1_000),
    "mnist-lenet": Case("mnist-lenet", 1_000, 125),
    "mnist-lenet, streamed": Case("mnist-lenet", 1_000, 125, streamed=True),
    "digits-resnet": Case("digits-resnet", 1_500, 5_000),
    "cifar-resnet": Case("cifar-resnet", 100, 100),
    "cifar-allcnn": Case("cifar-allcnn", 50, 50),
    "charlm-transformer": Case("charlm-transformer", 64, 64),
    "charlm-transformer, next character": Case("charlm-transformer", 64, 64, lambda batch: batch[1]),
    "digits-resnet, 40 groups": Case("digits-resnet", 1_500, 5_000, number_arbitrarily(40)),
    "digits-resnet, 100 groups": Case("digits-resnet", 1_500, 5_000, number_arbitrarily(100)),
}


def prepare_objectives(case: Case, data_dir: Path | None) -> tuple[Objective, Objective]:
    """Return the objective without and with classes."""
    problem = make_scaled_problem(case.problem, data_dir, case.n_examples)
    problem = replace(problem, groups=case.groups or problem.groups)
    objectives = tuple(prepare(problem, "train", CPU, by_class=by_class) for by_class in (False, True))
    if case.streamed:
        data = StreamedDataset(ByBatch(*problem.train))
        objectives = tuple(replace(objective, data=data) for objective in objectives)
    plain, by_class = objectives
    return plain, by_class


def measure_cpu_s(gradient: FullGradient, theta: Tensor) -> float:
    """Return the processor time of a pass with two directions, in seconds."""
    directions = [torch.randn(len(theta), dtype=torch.float64) for _ in range(2 if gradient.by_class else 0)]
    begin = time.process_time()
    gradient(theta, *directions)
    return time.process_time() - begin


@contextmanager
def force(method: str) -> Iterator[None]:
    """Use a method for all batches, except for those of examples that are sorted by class."""
    if method not in LIMITS:
        yield
        return
    with (
        patch.object(class_slopes, "CLASSES_PER_TENSOR", LIMITS[method]),
        patch.object(Piece, "has_group_per_example", False),
    ):
        yield


def compare(case: Case, data_dir: Path | None, repeats: int) -> list[str]:
    """Time all methods that apply to a case; returns the row of the table without the name."""
    plain, by_class = prepare_objectives(case, data_dir)
    with FullGradient(by_class, case.batch_size) as gradient:
        theta, n_tensors, n_classes = gradient.theta.clone(), len(gradient.table), gradient.pieces.n_classes
        piece = next(iter(gradient.pieces))
        is_separate = not by_class.mixes_examples and piece.has_group_per_example
        chooses_tensors = gradient.by_class and gradient.by_class.differentiates_by_tensor(len(piece.classes))
    chosen = "separate" if is_separate else "per tensor" if chooses_tensors else "per class"
    methods = ["separate"] if is_separate and not case.streamed else ["separate", *LIMITS][not is_separate :]
    seconds: dict[str, list[float]] = {method: [] for method in ("plain", *methods)}
    for _ in range(repeats + 1):
        for method, times in seconds.items():
            with (
                force(method),
                FullGradient(plain if method == "plain" else by_class, case.batch_size) as gradient,
            ):
                times.append(measure_cpu_s(gradient, theta))
    medians = {method: median(times[1:]) for method, times in seconds.items()}  # the first one is a warm-up
    ratios = {method: f"{medians[method] / medians['plain']:.2f}" for method in methods}
    ratios[chosen] += " *"
    cells = [ratios.get(method, "") for method in ("separate", *LIMITS)]
    return [str(n_classes), str(n_tensors), f"{1e3 * medians['plain']:.0f}", *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument("--repeats", type=int, default=3, help="Number of passes by each method.")
    parser.add_argument(
        "--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help="Rows to measure."
    )
    options = parser.parse_args()
    print(facts(describe()), "\n")
    rows = []
    for name in options.only:
        rows.append([name, *compare(CASES[name], options.data_dir, options.repeats)])
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    print(table(["problem", "classes", "tensors", "plain pass (ms)", "separate", "per class", "per tensor"], rows))


if __name__ == "__main__":
    main()
