"""Which device a name stands for, and how much memory there is."""

import os
from pathlib import Path

import torch

from lca.errors import UsageError

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def resolve_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU; any other name is torch's own, and has to work here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} does not work here: {str(error).splitlines()[0]}") from error


def get_memory_bytes(device: torch.device) -> int:
    """Bytes: what this process can have of a CUDA device; all that there is on a host, or in its container."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return whole
