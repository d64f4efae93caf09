"""Inspection of a model: sources of randomness, autocast, module modes and the state of each parameter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lca.allocation.full_gradient import FullGradient
from lca.model.parameters import get_named_parameters, get_trainable
from lca.runtime.precision import use_precision


def describe_randomness(model: nn.Module, losses: Callable[[], Tensor]) -> str:
    """Describe why two passes at the same parameters differ.

    The cause is a buffer that a pass changes, or the first module whose output differs although its input does not. If
    neither is found, the text says what else to check. `losses` runs the model on a few examples.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    runs = [_record_calls(model, losses) for _ in range(2)]
    changed = [name for name, buffer in model.named_buffers() if not torch.equal(buffer, before.get(name, buffer))]
    if changed:
        return f"A pass changes the buffer {changed[0]}. In eval mode a module must not modify its buffers."
    for one, again in zip(*runs, strict=False):
        if _equal(one.inputs, again.inputs) and not _equal(one.outputs, again.outputs):
            return f"The output of {one.module} differs between two passes although its input is the same."
    return "No single module is random. Check the loss function, the data, and operations that are not deterministic."


def find_autocast(gradient: FullGradient) -> str | None:
    """Return the name of the first module that runs under autocast in a float32 pass, or None."""
    found: list[str] = []

    def make_hook(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if torch.is_autocast_enabled(gradient.device.type):
                found.append(name or "the model")

        return hook

    handles = [module.register_forward_pre_hook(make_hook(name)) for name, module in gradient.model.named_modules()]
    try:
        with torch.no_grad(), use_precision("fp32", gradient.device):
            gradient.compute_sample()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


@dataclass(frozen=True)
class _ModuleCall:
    """The tensors that a call of a module received and returned."""

    module: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def _record_calls(model: nn.Module, losses: Callable[[], Tensor]) -> list[_ModuleCall]:
    """Return the calls of all modules, in the order in which they finish, so that inner modules come first."""
    calls: list[_ModuleCall] = []
    inputs: list[list[Tensor]] = []  # inputs of the unfinished calls, copied because a module may change them in place

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        inputs.append(_copy_tensors((args, kwargs)))

    def make_end_hook(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            what = f"the module {name}" if name else "the model itself"
            calls.append(_ModuleCall(f"{what} ({type(module).__name__})", inputs.pop(), _copy_tensors(output)))

        return hook

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(module.register_forward_hook(make_end_hook(name)))
    try:
        with torch.no_grad():
            losses()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _copy_tensors(value: Any) -> list[Tensor]:
    """Return copies of the tensors in a value, which may be nested in lists, tuples and mappings."""
    if isinstance(value, Tensor):
        return [value.detach().clone()]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for part in value for tensor in _copy_tensors(part)] if isinstance(value, list | tuple) else []


def _equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))


def list_parameters(model: nn.Module, losses: Callable[[], Tensor]) -> list[tuple[str, tuple[int, ...], str]]:
    """Return (name, shape, state) of every parameter. `losses` runs the model on a few examples.

    The state is "recorded", "not used by the loss", "frozen" or "tied to NAME".
    """
    recorded = get_trainable(model)
    gradients = torch.autograd.grad(losses().sum(), list(recorded.values()), allow_unused=True)
    unused = {name for name, part in zip(recorded, gradients, strict=True) if part is None}
    own_name = {id(tensor): name for name, tensor in get_named_parameters(model).items()}
    rows, seen = [], set()
    for name, tensor in model.named_parameters(remove_duplicate=False):
        own = own_name[id(tensor)]
        if own in seen:
            rows.append((name, tuple(tensor.shape), f"tied to {own}"))
            continue
        seen.add(own)
        state = "frozen" if own not in recorded else "not used by the loss" if own in unused else "recorded"
        rows.append((own, tuple(tensor.shape), state))
    return rows


def list_modules(model: nn.Module) -> list[tuple[str, str, str]]:
    """Return (name, kind, mode in a pass) of each BatchNorm, dropout and recurrent module."""
    rows = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            rows.append((name, kind, "batch statistics, running statistics unused"))
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            rows.append((name, kind, "off"))
        elif isinstance(module, nn.RNNBase):
            rows.append((name, kind, "training mode, dropout off"))
    return rows
