"""lca as a user runs it: the Recorder in the training loop, then lca.allocate."""

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
    """The model moves through the iterates, as under an optimizer, and each is recorded."""
    rows, tensors, table = iter(iterates), get_trainable(model).values(), build_table(model)
    assign(tensors, torch.from_numpy(next(rows)), table)
    with lca.Recorder(path, model) as recorder:
        for theta in rows:
            assign(tensors, torch.from_numpy(theta), table)
            recorder.record()


@contextmanager
def count_passes(n_examples: int, passes: Passes) -> Iterator[None]:
    """Passes over all of the split, as they are done inside; the probe's are over parts of it."""
    evaluate = FullGradient._evaluate

    def counting(self: FullGradient, *arguments: Any) -> object:
        if self.objective.n_examples < n_examples:
            return evaluate(self, *arguments)
        with passes.one():
            return evaluate(self, *arguments)

    with patch.object(FullGradient, "_evaluate", counting):
        yield
