"""Context managers that set the state of a model for a full-set gradient, and restore it afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from lca.model.parameters import get_trainable
from lca.model.vectors import choose_dtype


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules in eval mode, except for two kinds, which are put in training mode whatever their mode was.

    Modules with running statistics, such as BatchNorm, use the statistics of the current input and do not update the
    running ones. Recurrent modules are in training mode because cuDNN has no backward pass for them in eval mode, but
    their dropout is switched off, so their output is that of eval mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    recurrent = [(module, module.dropout) for module in model.modules() if isinstance(module, nn.RNNBase)]
    tracking: list[Any] = [module for module, _ in modes if getattr(module, "track_running_stats", False)]
    model.eval()
    for module in tracking:
        module.training, module.track_running_stats = True, False
    for module, _ in recurrent:
        module.training, module.dropout = True, 0.0
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module in tracking:
            module.track_running_stats = True
        for module, dropout in recurrent:
            module.dropout = dropout


@contextmanager
def keep_buffers(model: nn.Module) -> Iterator[None]:
    """Restore all buffers of the model on exit, even if a forward pass has changed them."""
    before = [
        (module, name, x, None if x is None else x.clone())
        for module in model.modules()
        for name, x in module._buffers.items()
    ]
    try:
        yield
    finally:
        for module, name, x, value in before:
            module._buffers[name] = x
            if x is not None and value is not None and (x.layout != torch.strided or not torch.equal(x, value)):
                x.data.copy_(value)


@contextmanager
def widen_tensors(model: nn.Module) -> Iterator[torch.dtype | None]:
    """Convert parameters and buffers that are narrower than θ, such as 16-bit ones, to the dtype of θ.

    Yields that dtype, or None if nothing had to be converted.
    """
    wide = choose_dtype(get_trainable(model).values())
    narrow = [x for x in chain(model.parameters(), model.buffers()) if is_narrower(x, wide)]
    before = [(x, x.data, x.grad) for x in narrow]
    for x in narrow:
        x.grad = None
        x.data = x.data.to(wide)
    try:
        yield wide if narrow else None
    finally:
        for x, data, grad in before:
            x.data = data
            x.grad = grad


def is_narrower(x: Tensor, dtype: torch.dtype) -> bool:
    return x.is_floating_point() and x.itemsize < dtype.itemsize


@contextmanager
def bind_parameters(model: nn.Module, thetas: list[Tensor], gradients: list[Tensor]) -> Iterator[None]:
    """Let the trainable parameters and their gradients share the memory of `thetas` and `gradients`.

    Both lists are in the order of θ and have the shapes of the parameters. They usually contain views of a vector.
    """
    tensors = get_trainable(model).values()
    before = [(tensor.data, tensor.grad) for tensor in tensors]
    for tensor, theta, gradient in zip(tensors, thetas, gradients, strict=True):
        tensor.data, tensor.grad = theta, gradient
    try:
        yield
    finally:
        for tensor, (data, grad) in zip(tensors, before, strict=True):
            tensor.data, tensor.grad = data, grad


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether the model contains BatchNorm. If it does, its loss depends on which examples share a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
