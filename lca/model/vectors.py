"""Flat parameter vectors θ (K,): views in the shapes of the parameters, and sums per tensor."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lca.store.parameters import ParameterTable


def make_views(vector: Tensor, table: ParameterTable) -> list[Tensor]:
    """Return one view of the vector (K,) per tensor of the table, in the shape of the tensor, without copying."""
    return [vector[p.span].view(p.shape) for p in table]


def choose_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return the dtype of θ: float64 if any tensor is float64, and float32 otherwise, even for 16-bit tensors."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def sum_by_tensor(vector: Tensor, lengths: Tensor) -> Tensor:
    """Return the sum of the vector (K,) over each tensor. `lengths` and the result have shape (n_tensors,)."""
    # unsafe=True skips a check of `lengths`, which would synchronize with the device.
    return torch.segment_reduce(vector, "sum", lengths=lengths, unsafe=True)


def norm_by_tensor(vector: Tensor, lengths: Tensor) -> Tensor:
    """Return the L2 norm of the vector (K,) over each tensor, in float64. `lengths` is as in `sum_by_tensor`."""
    return sum_by_tensor(vector.to(torch.float64, copy=True).square_(), lengths).sqrt()


@torch.no_grad()
def assign(tensors: Iterable[Tensor], theta: Tensor, table: ParameterTable) -> None:
    """Copy `theta`, (K,), into `tensors`, which must be in the order of the table."""
    for tensor, value in zip(tensors, make_views(theta, table), strict=True):
        tensor.copy_(value)
