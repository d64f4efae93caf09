"""A pass over a data set that is read anew each time, against one over the same examples in memory.

    PYTHONPATH=scripts .venv/bin/python -m bench.stream --data-dir DATA

The genuine MNIST on mnist-fc: 55,000 examples, of which a data set of the usual kind gives one at a time, so that what
is measured is mostly Python and the collating of small tensors. For data that decode images workers count for more. The
best of three passes each; about a minute on two cores. The README has what they gave there.
"""

import argparse
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import lca
from lca.allocation.full_gradient import FullGradient
from lca.problem.objective import Objective
from lca.problem.streaming import StreamedDataset, read_dataset
from lca.text import table

BATCH_SIZE = 1_000


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """The images and labels of a split, one at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images[i], self.labels[i]


class ByBatch(Examples):
    """The same, many at a time, as torch's loaders ask for where a data set can."""

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.images[indices], self.labels[indices], strict=True))


def pass_s(problem: lca.Problem, data: Any) -> float:
    objective = Objective(problem.model, problem.losses, data, problem.scale)
    with FullGradient(objective, BATCH_SIZE) as gradient:
        times = []
        for _ in range(4):  # the first one starts the workers
            begin = time.perf_counter()
            float(gradient(gradient.theta.clone()).loss)
            times.append(time.perf_counter() - begin)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    problem = lca.load("mnist-fc", data_dir=parser.parse_args().data_dir)
    in_memory = pass_s(problem, problem.train)
    rows = [["in memory", f"{1e3 * in_memory:.0f} ms", "1"]]
    with patch("lca.problem.streaming.HOST_SHARE", 0.0):
        for what, kind in (("one example at a time", Examples), ("many at a time", ByBatch)):
            for workers in (0, 1, 2):
                streamed = read_dataset(DataLoader(kind(*problem.train), num_workers=workers))
                assert isinstance(streamed, StreamedDataset)
                seconds = pass_s(problem, streamed)
                rows.append(
                    [f"streamed, {what}, {workers} workers", f"{1e3 * seconds:.0f} ms", f"{seconds / in_memory:.1f}"]
                )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table(["55,000 examples", "a pass", "of that in memory"], rows))


if __name__ == "__main__":
    main()
