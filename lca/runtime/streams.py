"""Copies between the host and an accelerator that run while the accelerator computes."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Devices that copy to and from pinned host memory while they compute. ROCm's devices are called "cuda" as well. On all
# others, the host waits for each copy. MPS shares its memory with the host, so it has little to gain.
ASYNCHRONOUS = {"cuda", "xpu"}


def is_asynchronous(device: torch.device) -> bool:
    """Return whether the device copies to and from pinned host memory while it computes."""
    return device.type in ASYNCHRONOUS


def allocate_on_host(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialized tensor in host memory, pinned if the device can copy to it asynchronously."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=is_asynchronous(device))


def pin(x: Tensor) -> Tensor:
    """Return the tensor in pinned host memory, from which an asynchronous device can copy while it computes."""
    return x if x.is_pinned() else x.pin_memory()
