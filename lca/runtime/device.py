"""Devices and their memory."""

from typing import Any

import torch

from lca.errors import UsageError
from lca.runtime.host import get_host_memory_bytes


def resolve_device(name: str) -> torch.device:
    """Return the device with this name. "auto" selects the accelerator if there is one, and the CPU otherwise.

    Raises UsageError if the device does not work on this machine.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        name = accelerator.type if accelerator else "cpu"
    try:
        device = torch.empty(0, device=name).device
        torch.empty(0, device=device).cpu()  # fails on the device "meta", which has no data
        if device.type == "cpu" and torch.device(name).index:
            raise RuntimeError("there is only one CPU device")
        return device
    except (RuntimeError, AssertionError) as error:  # a NotImplementedError is a RuntimeError
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device {name!r} is not usable: {reason}", remedy="Pass another device, such as cpu or auto."
        ) from error


def has_float64(device: torch.device) -> bool:
    """Return whether the device computes in float64. MPS and some Intel GPUs do not."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device).add_(1)
    except (RuntimeError, TypeError):
        return False
    return True


def find_float64_device(device: torch.device) -> torch.device:
    """Return the device for vectors and sums in float64: the device itself, or the CPU if it has no float64."""
    return device if has_float64(device) else torch.device("cpu")


def supports_cuda(device: torch.device) -> bool:
    """Return whether the device supports graphs and TF32, which are used only on CUDA."""
    return device.type == "cuda"


def get_memory_bytes(device: torch.device) -> int:
    """Return the number of bytes that this process can still allocate on an accelerator.

    For the CPU, and for an accelerator that does not report it, return the total memory of the machine, or of the
    container if that has a lower limit.
    """
    if device.type != "cpu":
        module: Any = torch.get_device_module(device)
        if device.type == "mps":
            return int(module.recommended_max_memory() - module.current_allocated_memory())
        if hasattr(module, "mem_get_info"):
            cached = torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)
            return int(module.mem_get_info(device)[0]) + cached
    return get_host_memory_bytes()
