"""Devices and their memory."""

import torch

from lca.errors import UsageError
from lca.runtime.host import get_host_memory_bytes


def resolve_device(name: str) -> torch.device:
    """Return the device with this name. "auto" selects CUDA if it is available, and the CPU otherwise.

    Raises UsageError if the device does not work on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
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


def get_memory_bytes(device: torch.device) -> int:
    """Return the number of bytes that this process can still allocate on a CUDA device.

    For the CPU, return the total memory of the machine, or of the container if that has a lower limit.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    return get_host_memory_bytes()
