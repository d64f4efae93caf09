"""The precision of matrix products and convolutions.

"fp32" uses the dtype of the model (float32 or float64). "tf32" rounds the operands of products to 10 mantissa bits and
needs CUDA. "bf16" uses autocast to bfloat16. Parameters and their gradients keep the dtype of the model in all three.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from lca.errors import UsageError
from lca.runtime.device import supports_cuda
from lca.store.schema import PRECISIONS


def require_precision(name: str, device: torch.device) -> None:
    """Raise UsageError if the precision is unknown or the device does not support it."""
    if name not in PRECISIONS:
        raise UsageError("precision", expected=f"one of {', '.join(PRECISIONS)}", found=repr(name))
    if name == "tf32" and not supports_cuda(device):
        raise UsageError("precision", expected=f"fp32 or bf16 on {device} (tf32 needs CUDA)", found="tf32")
    if name == "bf16" and not torch.amp.is_autocast_available(device.type):
        raise UsageError("precision", expected=f"fp32 on {device}, which has no autocast", found="bf16")


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
        with _autocast(device, enabled=name == "bf16"):
            yield
    finally:
        for module, flag, value in before:
            setattr(module, flag, value)


def _autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    """Return a context that turns autocast to bfloat16 on or off. It has no effect if the device has no autocast."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    # Autocast caches converted weights, and would keep using them after the weights have changed.
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)
