"""The precision of matrix products and convolutions.

"fp32" uses the dtype of the model (float32 or float64). "tf32" rounds the operands of products to 10 mantissa bits and
needs CUDA. "bf16" uses autocast to bfloat16. Parameters and their gradients keep the dtype of the model in all three.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lca.errors import UsageError
from lca.store.schema import PRECISIONS


def require_precision(name: str, device: torch.device) -> None:
    """Raise UsageError if the precision is unknown or the device does not support it."""
    if name not in PRECISIONS:
        raise UsageError("precision", expected=f"one of {', '.join(PRECISIONS)}", found=repr(name))
    if name == "tf32" and device.type != "cuda":
        raise UsageError("precision", expected=f"fp32 or bf16 on {device} (tf32 needs CUDA)", found="tf32")


@contextmanager
def use_precision(name: str, device: torch.device) -> Iterator[None]:
    """Set the precision and deterministic cuDNN algorithms within the context, and restore all flags at the end."""
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    on_cuda, on_host = [backends.cuda.matmul, cudnn.conv, cudnn.rnn], [mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    flags: list[tuple[Any, str, Any]] = [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    flags += [(module, "fp32_precision", "tf32" if name == "tf32" else "ieee") for module in on_cuda]
    flags += [(module, "fp32_precision", "ieee") for module in on_host]
    before = [(module, flag, getattr(module, flag)) for module, flag, _ in flags]
    try:
        for module, flag, value in flags:
            setattr(module, flag, value)
        # Autocast caches converted weights, and would keep using them after the weights have changed.
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16", cache_enabled=False):
            yield
    finally:
        for module, flag, value in before:
            setattr(module, flag, value)
