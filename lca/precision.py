"""In which arithmetic matrix products and convolutions are done."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lca.errors import UsageError

# fp32 is float32 throughout. tf32 rounds the operands of products to 10 bits of mantissa, on CUDA. bf16 is autocast to
# bfloat16. Sums are float32 in all of them, parameters and gradients too.
PRECISIONS = ("fp32", "tf32", "bf16")


def require_precision(name: str, device: torch.device) -> None:
    """Raise unless the precision is known and the device has it."""
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}; the known ones are {', '.join(PRECISIONS)}.")
    if name == "tf32" and device.type != "cuda":
        raise UsageError(f"precision tf32 needs a CUDA device, and this is {device}; fp32 and bf16 work there.")


@contextmanager
def in_precision(name: str, device: torch.device) -> Iterator[None]:
    """Inside, one of PRECISIONS, whatever the caller has set for the process."""
    kinds = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    tf32 = name == "tf32"
    kinds[0].fp32_precision = "tf32" if tf32 else "ieee"
    for kind in kinds[1:]:
        kind.fp32_precision = "ieee"
    try:
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32),
            # Its cache of weights would outlive a change of them.
            torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16", cache_enabled=False),
        ):
            yield
    finally:
        for kind, was in zip(kinds, before, strict=True):
            kind.fp32_precision = was
