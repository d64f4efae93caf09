"""Which device a name stands for."""

import torch

from lca.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU; any other name is torch's own, and has to work here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} does not work here: {str(error).splitlines()[0]}") from error
