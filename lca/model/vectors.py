"""Flat vectors θ (K,): views of the parameters' shapes, and sums over the tensors."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lca.store.parameters import ParameterTable


def make_views(vector: Tensor, table: ParameterTable) -> list[Tensor]:
    """vector (K,) -> one view of the parameter's own shape per tensor; no copy."""
    return [vector[p.span].view(p.shape) for p in table]


def choose_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """What holds all of them without loss: float64 if one of them is that, else float32, also for 16 bits."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def sum_by_tensor(vector: Tensor, lengths: Tensor) -> Tensor:
    """vector (K,), lengths (tensor,) -> the sum over each tensor's stretch, (tensor,), on the vector's device."""
    return torch.segment_reduce(vector, "sum", lengths=lengths, unsafe=True)  # or it asks the device what lengths are


def norm_by_tensor(vector: Tensor, lengths: Tensor) -> Tensor:
    """vector (K,), lengths (tensor,) -> the L2 norm of each tensor's stretch, (tensor,), in float64."""
    return sum_by_tensor(vector.to(torch.float64, copy=True).square_(), lengths).sqrt()


@torch.no_grad()
def assign(tensors: Iterable[Tensor], theta: Tensor, table: ParameterTable) -> None:
    """Copy the parts of theta (K,) into tensors, which are those of the table in its order."""
    for tensor, value in zip(tensors, make_views(theta, table), strict=True):
        tensor.copy_(value)
