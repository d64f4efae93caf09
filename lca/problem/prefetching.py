"""Prefetching: batches are copied to the device while the ones before them are in use."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from lca.problem.batches import Batch, map_tensors

T = TypeVar("T")


def prefetch(batches: Iterable[tuple[Batch, T]], device: torch.device) -> Iterator[tuple[Batch, T]]:
    """Yield each batch on the device, together with the value that accompanies it.

    On CUDA, a batch is copied while the one before it is in use, and the host does not wait for the copy. At most three
    batches occupy memory on the device: a copy starts after all work that was queued before it, so it can reuse the
    memory of a batch that is no longer needed.
    """
    if device.type != "cuda":
        for batch, beside in batches:
            yield map_tensors(batch, lambda x: x.to(device)), beside
        return
    copies = _copy_stream(device)

    def copy_ahead(item: tuple[Batch, T]) -> tuple[Batch, T, torch.cuda.Event]:
        copies.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(copies):
            copied = map_tensors(item[0], lambda x: _pin(x).to(device, non_blocking=True))
        return copied, item[1], copies.record_event()

    for now, _ in pairwise(chain(map(copy_ahead, batches), [None])):
        assert now is not None
        batch, beside, arrived = now
        torch.cuda.current_stream(device).wait_event(arrived)
        yield batch, beside


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the copy stream of a device. All passes share it, because memory is not reused across streams."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pin(x: Tensor) -> Tensor:
    """Return the tensor in pinned memory, which allows asynchronous copies."""
    return x if x.is_cuda or x.is_pinned() else x.pin_memory()
