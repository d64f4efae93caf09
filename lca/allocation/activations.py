"""The memory that autograd keeps for a later backward pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def measure_saved_bytes(compute: Callable[[], object], existing: Iterable[Tensor]) -> int:
    """Return the bytes of all tensors that a computation saves for the backward pass, except for `existing` ones."""
    known = {tensor.untyped_storage().data_ptr() for tensor in existing}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return sum(kept.values())
