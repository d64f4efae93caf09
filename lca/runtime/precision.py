"""The arithmetic of matrix products and convolutions.

fp32 is float32 throughout. tf32 rounds the operands of products to 10 bits of mantissa, on CUDA. bf16 is autocast to
bfloat16. Sums are float32 in all of them, parameters and gradients too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lca.errors import UsageError
from lca.store.schema import PRECISIONS


def require_precision(name: str, device: torch.device) -> None:
    """Raise UsageError unless the precision is known and the device has it."""
    if name not in PRECISIONS:
        raise UsageError("precision", expected=f"one of {', '.join(PRECISIONS)}", found=repr(name))
    if name == "tf32" and device.type != "cuda":
        raise UsageError("precision", expected=f"fp32 or bf16 on {device}; tf32 needs a CUDA device", found="tf32")


@contextmanager
def use_precision(name: str, device: torch.device) -> Iterator[None]:
    """Inside, one of PRECISIONS and deterministic algorithms, whatever the caller has set for the process."""
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    on_cuda, on_host = [backends.cuda.matmul, cudnn.conv, cudnn.rnn], [mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    wanted: list[tuple[Any, str, Any]] = [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    wanted += [(kind, "fp32_precision", "tf32" if name == "tf32" else "ieee") for kind in on_cuda]
    wanted += [(kind, "fp32_precision", "ieee") for kind in on_host]
    before = [(place, flag, getattr(place, flag)) for place, flag, _ in wanted]
    try:
        for place, flag, value in wanted:
            setattr(place, flag, value)
        # Autocast's cache of weights would outlive a change of them.
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16", cache_enabled=False):
            yield
    finally:
        for place, flag, value in before:
            setattr(place, flag, value)
