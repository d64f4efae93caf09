"""Copying of a model's parameters into rows of host memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lca.model.vectors import make_views
from lca.runtime.streams import is_asynchronous
from lca.store.parameters import ParameterTable


class Staging:
    """Copies the parameters, in the order of θ, into rows of host memory.

    The tensors are gathered into a flat vector on their device, which is then copied to the host. If the device copies
    asynchronously, the copy goes to pinned memory on a separate stream. Two flat vectors take turns, so that gathering
    does not wait for the previous copy.
    """

    def __init__(
        self, table: ParameterTable, tensors: Sequence[Tensor], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.tensors = list(tensors)
        self.stream = torch.Stream(device) if is_asynchronous(device) else None
        self.stages = [torch.empty(table.size, dtype=dtype, device=device) for _ in range(2 if self.stream else 1)]
        self.parts = [make_views(stage, table) for stage in self.stages]
        self.copied = [torch.Event(device) for _ in self.stages] if self.stream else []
        self.turn = 0

    @torch.no_grad()
    def take(self, row: Tensor) -> None:
        """Copy the current values of the parameters into `row`, of shape (K,)."""
        stage, parts = self.stages[self.turn], self.parts[self.turn]
        if self.stream is None:
            torch._foreach_copy_(parts, self.tensors)
            row.copy_(stage)
            return
        current = torch.accelerator.current_stream(stage.device)
        current.wait_event(self.copied[self.turn])
        torch._foreach_copy_(parts, self.tensors)
        self.stream.wait_stream(current)
        with self.stream:
            row.copy_(stage, non_blocking=True)
            self.copied[self.turn].record(self.stream)
        self.turn = 1 - self.turn

    def event(self) -> torch.Event | None:
        """Return an event that occurs when all rows are in host memory, or None if copies are synchronous."""
        return self.stream.record_event() if self.stream else None
