"""Measure a pass over a streamed dataset, compared with a pass over the same examples in memory.

    PYTHONPATH=scripts .venv/bin/python -m bench.stream --data-dir DATA

The problem is mnist-fc with the 55,000 examples of the genuine MNIST. The dataset returns them one at a time, as most
datasets do, so that most of the time is spent in Python and on collating small tensors. Workers help more if a dataset
also decodes images. Each time is the best of three passes. Takes about a minute on two cores.
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
    """A dataset that returns the images and labels of a split one at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images[i], self.labels[i]


class ByBatch(Examples):
    """A dataset that can also return many examples at a time, with the method that DataLoader uses if there is one."""

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.images[indices], self.labels[indices], strict=True))


def time_pass(problem: lca.Problem, data: Any) -> float:
    objective = Objective(problem.model, problem.losses, data, problem.scale)
    with FullGradient(objective, BATCH_SIZE) as gradient:
        times = []
        for _ in range(4):  # the first pass starts the workers
            begin = time.perf_counter()
            float(gradient(gradient.theta.clone()).loss)
            times.append(time.perf_counter() - begin)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    problem = lca.load("mnist-fc", data_dir=parser.parse_args().data_dir)
    in_memory = time_pass(problem, problem.train)
    rows = [["in memory", f"{1e3 * in_memory:.0f} ms", "1"]]
    with patch("lca.problem.streaming.HOST_SHARE", 0.0):
        for what, kind in (("one example at a time", Examples), ("many at a time", ByBatch)):
            for workers in (0, 1, 2):
                streamed = read_dataset(DataLoader(kind(*problem.train), num_workers=workers))
                assert isinstance(streamed, StreamedDataset)
                seconds = time_pass(problem, streamed)
                rows.append(
                    [f"streamed, {what}, {workers} workers", f"{1e3 * seconds:.0f} ms", f"{seconds / in_memory:.1f}"]
                )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table(["55,000 examples", "time per pass", "relative to memory"], rows))


if __name__ == "__main__":
    main()
