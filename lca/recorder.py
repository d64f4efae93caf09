"""Every iterate of an optimizer, θ_0 first, into a run store."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lca.errors import LCAError
from lca.parameters import ParameterTable, trainable, views
from lca.store import create_run


class Recorder:
    """Record a training loop of any kind; a context manager.

        with lca.Recorder("run.zarr", model) as recorder:
            recorder.attach(optimizer)
            ...                                       # train

    θ_0 is taken on entry. The iterates are kept until a block of them is full and is then written, in float32 as they
    are. On leaving, also by an exception, what is left is written; the store is complete unless it was an exception.
    attributes: what the store says of the run, such as the problem and its configuration.
    """

    def __init__(
        self,
        path: Path | str,
        model: nn.Module,
        *,
        attributes: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path, self.overwrite = Path(path), overwrite
        self.attributes = dict(attributes or {})
        self.tensors = list(trainable(model).values())
        self.table = ParameterTable.of(model)
        for parameter, tensor in zip(self.table, self.tensors, strict=True):
            if tensor.dtype != torch.float32:
                raise LCAError(f"{parameter.name} is {tensor.dtype}; a run store holds float32. Train in float32.")

    def __enter__(self) -> Self:
        self.run = create_run(self.path, self.table, self.attributes, overwrite=self.overwrite)
        self.buffer = torch.empty(self.run.block, self.table.size)
        self.rows = [views(row, self.table) for row in self.buffer]
        self.n_buffered = 0
        self.scalars: dict[str, list[float | Tensor]] = defaultdict(list)
        self._take()
        return self

    def attach(self, optimizer: Optimizer) -> None:
        """Record after every step of the optimizer."""
        optimizer.register_step_post_hook(lambda *_: self.record())

    def record(self, **scalars: float | Tensor) -> None:
        """Take the model's parameters as the next iterate, with scalars of the iteration that led to it.

        A tensor without dimensions is as good as a number, and is not waited for.
        """
        for name, value in scalars.items():
            self.scalars[name].append(value)
        self._take()

    def __exit__(self, exception: object, *_: object) -> None:
        self._flush()
        if exception is None:
            self.run.finish()

    @torch.no_grad()
    def _take(self) -> None:
        torch._foreach_copy_(self.rows[self.n_buffered], self.tensors)
        self.n_buffered += 1
        if self.n_buffered == len(self.rows):
            self._flush()

    def _flush(self) -> None:
        if self.n_buffered:
            training = {name: np.array([float(v) for v in values]) for name, values in self.scalars.items()}
            self.run.append(self.buffer[: self.n_buffered].numpy(), training)
            self.n_buffered = 0
            self.scalars.clear()
