"""The parameters of a model: which ones are recorded, their names, and the parameter table."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lca.errors import LCAError
from lca.model.vectors import choose_dtype
from lca.store.parameters import Kind, Parameter, ParameterTable
from lca.store.run import Run
from lca.text import pluralize

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def build_table(model: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> ParameterTable:
    """Build the parameter table of a model.

    `tensors` contains the parameters to include, by name. The default is all trainable parameters. Raises LCAError if
    there are no parameters to include.
    """
    tensors = get_trainable(model) if tensors is None else tensors
    owners = {id(tensor): module for module in model.modules() for tensor in module._parameters.values()}
    entries: list[Parameter] = []
    offset, layer = 0, ""
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        kind = _classify(owners[id(tensor)], leaf)
        if kind == "kernel" or not layer:
            layer = owner or type(owners[id(tensor)]).__name__
        # A bias belongs to the layer of its module, even if another module's kernel comes in between.
        home = layer if kind != "bias" or not owner else owner
        entries.append(Parameter(name, tuple(tensor.shape), offset, tensor.numel(), home, kind))
        offset += tensor.numel()
    if not entries:
        n_frozen = sum(1 for _ in model.parameters())
        raise LCAError(
            f"the parameters of {type(model).__name__}",
            expected="at least one with requires_grad=True",
            found=f"{pluralize(n_frozen, 'parameter')}, all with requires_grad=False" if n_frozen else "no parameters",
            remedy="Set requires_grad=True for the parameters to train."
            if n_frozen
            else "Pass a model with parameters.",
        )
    return ParameterTable(tuple(entries))


def require_same_model(run: Run, tensors: Mapping[str, Tensor], table: ParameterTable, what: str) -> None:
    """Raise LCAError if names, shapes or dtype of the parameters differ from those recorded in the run.

    `what` describes the parameters in the error message.
    """
    run.parameters.require_same(table, str(run.path), what)
    found, expected = str(choose_dtype(tensors.values())).removeprefix("torch."), run.weights.dtype.name
    if found != expected:
        raise LCAError(
            f"dtype of {what}",
            expected=f"{expected}, as recorded in {run.path}",
            found=found,
            remedy=f"Pass a model in {expected}.",
        )


def get_named_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters by name, in the order of θ. Tied parameters appear once.

    The names do not contain the prefixes that torch.compile, data-parallel and checkpointing wrappers add.
    """
    return _use_own_names(model, model.named_parameters())


def get_fixed_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the frozen parameters and buffers by name, but no running statistics, because L does not use them."""
    running = {
        id(buffer)
        for module in model.modules()
        if getattr(module, "track_running_stats", False)
        for buffer in module.buffers(recurse=False)
    }
    frozen = {name: tensor for name, tensor in get_named_parameters(model).items() if not tensor.requires_grad}
    buffers = _use_own_names(model, model.named_buffers())
    return frozen | {name: buffer for name, buffer in buffers.items() if id(buffer) not in running}


def get_trainable(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that require a gradient, by name, in the order of θ."""
    return {name: tensor for name, tensor in get_named_parameters(model).items() if tensor.requires_grad}


def get_device(model: nn.Module) -> torch.device:
    """Return the device of the model's trainable parameters."""
    return next(iter(get_trainable(model).values())).device


def flatten(model: nn.Module) -> Tensor:
    """Copy the trainable parameters into a new vector θ (K,), on their device, with the dtype from `choose_dtype`."""
    tensors = get_trainable(model).values()
    dtype = choose_dtype(tensors)
    return torch.cat([tensor.detach().reshape(-1).to(dtype) for tensor in tensors])


def _use_own_names(model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors by name, without the prefixes that wrappers add to the names."""
    wrapped = {f"{path}.{inner}".lstrip(".") for path, module in model.named_modules() if (inner := _inner(module))}

    def clean(name: str) -> str:
        parts = name.split(".")
        return ".".join(part for i, part in enumerate(parts, start=1) if ".".join(parts[:i]) not in wrapped)

    return {clean(name): tensor for name, tensor in tensors}


def _classify(module: nn.Module, leaf: str) -> Kind:
    if isinstance(module, NORMS):
        return "norm"
    return "bias" if "bias" in leaf else "kernel"


def _inner(module: nn.Module) -> str | None:
    """Return the attribute in which a wrapper keeps the wrapped module. Return None if the module is not a wrapper."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    return next((name for name in ("_orig_mod", "_checkpoint_wrapped_module") if name in module._modules), None)
