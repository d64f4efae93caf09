"""The memory that autograd keeps for a later backward pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def measure_saved_bytes(compute: Callable[[], object], existing: Iterable[Tensor]) -> int:
    """Return the bytes of all tensors that a computation saves for the backward pass, except for `existing` ones."""
    # Some backends have no data pointers, so storages are told apart by their objects in C++.
    known = {tensor.untyped_storage()._cdata for tensor in existing}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return sum(kept.values())
