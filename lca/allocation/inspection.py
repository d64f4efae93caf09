"""What a model does during a pass: which modules are random, in autocast or in a mode of their own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lca.allocation.full_gradient import FullGradient
from lca.model.parameters import get_named_parameters, get_trainable
from lca.runtime.precision import use_precision


def describe_randomness(model: nn.Module, losses: Callable[[], Tensor]) -> str:
    """Describe the first module whose output differs between two identical passes.

    losses: runs the model on a few examples.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    runs = [_collect_outputs(model, losses) for _ in range(2)]
    written = [name for name, buffer in model.named_buffers() if not torch.equal(buffer, before.get(name, buffer))]
    if written:
        return f"A pass changes the buffer {written[0]}; in eval mode a module has to leave its buffers as they are."
    for (name, kind, output), (_, _, again) in zip(*runs, strict=False):
        if not torch.equal(output, again):
            return f"The first module whose output differs each time is {name or 'the model itself'} ({kind})."
    return "No module is random by itself, so it is the loss function or the data, or sums in another order."


def find_autocast(gradient: FullGradient) -> str | None:
    """The first module that computes in autocast although the pass is in float32."""
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if torch.is_autocast_enabled(gradient.device.type):
                found.append(name or "the model")

        return hook

    handles = [module.register_forward_pre_hook(look(name)) for name, module in gradient.model.named_modules()]
    try:
        with torch.no_grad(), use_precision("fp32", gradient.device):
            gradient.compute_sample()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _collect_outputs(model: nn.Module, losses: Callable[[], Tensor]) -> list[tuple[str, str, Tensor]]:
    """(name, kind, output) of the modules that return a tensor, in the order in which they finish."""
    outputs: list[tuple[str, str, Tensor]] = []

    def keep(name: str, kind: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.append((name, kind, output.detach().clone()))

        return hook

    handles = [
        module.register_forward_hook(keep(name, type(module).__name__)) for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            losses()
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def list_parameters(model: nn.Module, losses: Callable[[], Tensor]) -> list[tuple[str, tuple[int, ...], str]]:
    """(name, shape, state) of every parameter. losses: runs the model on a few examples."""
    recorded = get_trainable(model)
    gradients = torch.autograd.grad(losses().sum(), list(recorded.values()), allow_unused=True)
    untouched = {name for name, part in zip(recorded, gradients, strict=True) if part is None}
    own_name = {id(tensor): name for name, tensor in get_named_parameters(model).items()}
    rows, seen = [], set()
    for name, tensor in model.named_parameters(remove_duplicate=False):
        own = own_name[id(tensor)]
        if own in seen:
            rows.append((name, tuple(tensor.shape), f"tied to {own}"))
            continue
        seen.add(own)
        state = "frozen" if own not in recorded else "never touched by the loss" if own in untouched else "recorded"
        rows.append((own, tuple(tensor.shape), state))
    return rows


def list_modules(model: nn.Module) -> list[tuple[str, str, str]]:
    """(name, kind, mode) of the modules whose behaviour depends on a mode, and the one that is used."""
    rows = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            rows.append((name, kind, "statistics of the batch, buffers untouched"))
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            rows.append((name, kind, "off"))
        elif isinstance(module, nn.RNNBase):
            rows.append((name, kind, "training mode, dropout off"))
    return rows
