"""lca as a user runs it: the Recorder in the training loop, then lca.allocate."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from alternatives.full_set import Passes
from numpy.typing import NDArray
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.model.parameters import get_trainable
from lca.problem.streaming import count_examples


def record(iterates: Collection[NDArray[Any]], path: Path, model: nn.Module) -> None:
    """The model moves through the iterates, as under an optimizer, and each is recorded."""
    rows, tensors = iter(iterates), list(get_trainable(model).values())
    move(tensors, next(rows))
    with lca.Recorder(path, model) as recorder:
        for theta in rows:
            move(tensors, theta)
            recorder.record()


@torch.no_grad()
def move(tensors: list[torch.Tensor], theta: NDArray[Any]) -> None:
    parts = torch.from_numpy(theta).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def counted(n_examples: int, passes: Passes) -> Iterator[None]:
    """Passes over all of the split, as they are done inside; the probe's are over parts of it."""
    evaluate = FullGradient._evaluate

    def counting(self: FullGradient, *arguments: Any) -> object:
        if count_examples(self.data) < n_examples:
            return evaluate(self, *arguments)
        with passes.one():
            return evaluate(self, *arguments)

    with patch.object(FullGradient, "_evaluate", counting):
        yield
