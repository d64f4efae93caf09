"""Checks that a model can be recorded, and that its parameters remain the same tensors during recording."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from lca.errors import LCAError
from lca.model.parameters import get_named_parameters

# The dtypes that a run stores without loss: float64 unchanged, and the others as float32.
REAL = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def require_recordable(named: Mapping[str, Tensor]) -> None:
    """Raise LCAError if a parameter is sharded, or has a dtype that a run cannot store."""
    for name, tensor in named.items():
        if type(tensor).__module__.startswith("torch.distributed"):
            raise LCAError(
                f"{name} is sharded across processes ({type(tensor).__name__}), so no process can record all of it",
                remedy="Train with DistributedDataParallel, or on one device.",
            )
        if name.split(".")[-1] == "_flat_param":
            raise LCAError(
                f"{name} is sharded by FullyShardedDataParallel, so no process can record all parameters",
                remedy="Train with DistributedDataParallel, or on one device.",
            )
        if tensor.requires_grad and tensor.is_complex():
            raise LCAError(
                f"{name} is {tensor.dtype}, but a loss change can only be allocated to real numbers",
                remedy="Define the real and the imaginary part as parameters, as in "
                "nn.Parameter(torch.view_as_real(z)), and combine them with torch.view_as_complex in forward().",
            )
        if tensor.requires_grad and tensor.dtype not in REAL:
            expected = f"one of {', '.join(map(str, REAL))}"
            raise LCAError(f"the dtype of {name}", expected=expected, found=str(tensor.dtype))


def require_unchanged(model: nn.Module, chosen: Mapping[str, Tensor], frozen: Collection[str]) -> None:
    """Raise LCAError if a parameter was unfrozen or replaced since recording began."""
    for name, tensor in get_named_parameters(model).items():
        if name in frozen and tensor.requires_grad:
            raise LCAError(
                f"{name} was frozen when recording began and now requires a gradient, so its updates are not recorded",
                remedy="Set requires_grad=True from the start, and add the parameter to the optimizer when its "
                "training begins.",
            )
        if chosen.get(name, tensor) is not tensor:
            raise LCAError(
                f"{name} was replaced after recording began, so its updates are not recorded",
                remedy="Start recording when the model has its final parameters.",
            )
