"""Prefetching: each batch is copied to the device while the one before it is in use."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, pairwise
from typing import TypeVar

import torch

from lca.problem.batches import Batch, map_tensors
from lca.runtime.streams import is_asynchronous, pin

T = TypeVar("T")


def prefetch(batches: Iterable[tuple[Batch, T]], device: torch.device) -> Iterator[tuple[Batch, T]]:
    """Yield each batch on the device, together with the value that accompanies it.

    If the device copies asynchronously, a batch is copied while the one before it is in use, and the host does not wait
    for the copy. At most three batches occupy memory on the device: a copy starts after all work that was queued before
    it, so it can reuse the memory of a batch that is no longer needed.
    """
    if not is_asynchronous(device):
        for batch, beside in batches:
            yield map_tensors(batch, lambda x: x.to(device)), beside
        return
    copies = _copy_stream(device)

    def copy_ahead(item: tuple[Batch, T]) -> tuple[Batch, T, torch.Event]:
        copies.wait_stream(torch.accelerator.current_stream(device))
        with copies:
            copied = map_tensors(item[0], lambda x: x if x.device == device else pin(x).to(device, non_blocking=True))
        return copied, item[1], copies.record_event()

    for now, _ in pairwise(chain(map(copy_ahead, batches), [None])):
        assert now is not None
        batch, beside, arrived = now
        torch.accelerator.current_stream(device).wait_event(arrived)
        yield batch, beside


@cache
def _copy_stream(device: torch.device) -> torch.Stream:
    """Return the copy stream of a device. All passes share it, because memory is not reused across streams."""
    return torch.Stream(device)
