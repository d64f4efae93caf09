"""The pipeline of an lca user: a Recorder in the training loop, followed by lca.allocate."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from numpy.typing import NDArray
from torch import nn

import lca
from bench.flows.full_set import Passes
from lca.allocation.full_gradient import FullGradient
from lca.model.parameters import build_table, get_trainable
from lca.model.vectors import assign


def record(iterates: Collection[NDArray[Any]], path: Path, model: nn.Module) -> None:
    """Set the model to each iterate in turn, as an optimizer would, and record it."""
    rows, tensors, table = iter(iterates), get_trainable(model).values(), build_table(model)
    assign(tensors, torch.from_numpy(next(rows)), table)
    with lca.Recorder(path, model) as recorder:
        for theta in rows:
            assign(tensors, torch.from_numpy(theta), table)
            recorder.record()


@contextmanager
def count_passes(n_examples: int, passes: Passes) -> Iterator[None]:
    """Count and time the passes over the whole split inside the context, excluding the trials of batch sizes."""
    evaluate = FullGradient._evaluate

    def count(self: FullGradient, *arguments: Any) -> object:
        if self.objective.n_examples < n_examples:
            return evaluate(self, *arguments)
        with passes.one():
            return evaluate(self, *arguments)

    with patch.object(FullGradient, "_evaluate", count):
        yield
