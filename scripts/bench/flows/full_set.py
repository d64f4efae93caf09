"""The gradient of the mean loss over a split, computed in a plain loop over batches.

All methods except lca use this loop, with the batch size that lca has chosen. They therefore differ in their pipelines
and not in the speed of their passes.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import vector_to_parameters

from lca.model.parameters import get_trainable
from lca.problem.batches import Batch, length, split_batch
from lca.problem.losses import Losses

Gradient = Callable[[NDArray[np.floating[Any]]], NDArray[np.floating[Any]]]


@dataclass
class Passes:
    """Counts and times full-set passes. After `kill_at` passes, the process kills itself with SIGKILL."""

    kill_at: int | None = None
    n: int = 0
    seconds: float = 0.0

    @contextmanager
    def one(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - begin
        self.n += 1
        if self.n == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class FullSetGradient:
    """Maps theta (K,) to the gradient (K,) in the dtype of the model. `data` are in the form that the losses expect."""

    def __init__(
        self, model: nn.Module, losses: Losses, data: Batch, batch_size: int, passes: Passes | None = None
    ) -> None:
        self.model, self.losses, self.passes = model.eval(), losses, passes or Passes()
        self.batches, self.n_examples = split_batch(data, batch_size), length(data)
        self.parameters = list(get_trainable(model).values())

    def __call__(self, theta: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        with self.passes.one():
            vector_to_parameters(torch.as_tensor(theta, dtype=self.parameters[0].dtype), self.parameters)
            self.model.zero_grad()
            for batch in self.batches:
                loss = self.losses(self.model, batch).sum() / self.n_examples
                loss.backward()  # type: ignore[no-untyped-call]
            gradients = [parameter.grad for parameter in self.parameters]
            return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).numpy()
