"""The parameter table: which stretch of the flat vector θ (K,) is which tensor, and which tensors make a layer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lca.errors import LCAError, UsageError

Kind = Literal["kernel", "bias", "norm"]

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True)
class Parameter:
    """One tensor of the model and its place in θ: theta[offset : offset + size].

    layer: the module whose kernel it belongs to, so that a bias, and a norm that follows, is counted with its kernel.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    layer: str
    kind: Kind

    @property
    def span(self) -> slice:
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class ParameterTable(Sequence[Parameter]):
    """The trainable parameters of a model in the order of θ; tied ones once."""

    entries: tuple[Parameter, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.entries)

    @property
    def size(self) -> int:
        """K."""
        return sum(parameter.size for parameter in self)

    @property
    def sizes(self) -> list[int]:
        return [parameter.size for parameter in self]

    @property
    def layers(self) -> list[str]:
        """The layers in the order in which they first occur."""
        return list(dict.fromkeys(parameter.layer for parameter in self))

    def rows(self, name: str) -> slice | NDArray[np.int64]:
        """Where a tensor, or a layer with all of its tensors, lies in θ, and so in the rows of `weights` and `lca`.

        A slice where it is in one piece, as nearly always; else the numbers of its parameters, for `lca.oindex`.
        """
        spans = [p.span for p in self if name in (p.name, p.layer)]
        if not spans:
            raise UsageError(
                f"there is no layer or tensor {name!r}; there are {', '.join([*self.layers, *(p.name for p in self)])}."
            )
        if all(a.stop == b.start for a, b in pairwise(spans)):
            return slice(spans[0].start, spans[-1].stop)
        return np.concatenate([np.arange(span.start, span.stop) for span in spans])

    def sum_by_layer(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """values (…, tensor) -> their sums over the tensors of each layer, (…, layer)."""
        layers = self.layers
        sums = np.zeros((*values.shape[:-1], len(layers)))
        for i, parameter in enumerate(self):
            sums[..., layers.index(parameter.layer)] += values[..., i]
        return sums

    @classmethod
    def of(cls, model: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> Self:
        """The table of some of a model's parameters, as named_parameters gives them; all trainable ones by default."""
        tensors = trainable(model) if tensors is None else tensors
        owners = {id(tensor): module for module in model.modules() for tensor in module._parameters.values()}
        entries: list[Parameter] = []
        offset, layer = 0, ""
        for name, tensor in tensors.items():
            owner, _, leaf = name.rpartition(".")
            kind = _kind(owners[id(tensor)], leaf)
            if kind == "kernel" or not layer:
                layer = owner or type(owners[id(tensor)]).__name__
            # A bias stays with its own module even where another module's kernel came in between.
            home = layer if kind != "bias" or not owner else owner
            entries.append(Parameter(name, tuple(tensor.shape), offset, tensor.numel(), home, kind))
            offset += tensor.numel()
        if not entries:
            raise LCAError(f"{type(model).__name__} has no trainable parameters: every requires_grad is False.")
        return cls(tuple(entries))

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(parameter) for parameter in self]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Self:
        return cls(tuple(Parameter(**{**row, "shape": tuple(row["shape"])}) for row in rows))

    def require_same(self, other: Self, this: str, that: str) -> None:
        """Raise unless `other` names the same tensors of the same shapes in the same order."""
        found, wanted = [(p.name, p.shape) for p in other], [(p.name, p.shape) for p in self]
        if found == wanted:
            return
        differing = next(i for i in range(len(found) + 1) if found[i : i + 1] != wanted[i : i + 1])

        def describe(rows: list[tuple[str, tuple[int, ...]]]) -> str:
            return "nothing" if differing >= len(rows) else f"{rows[differing][0]} {rows[differing][1]}"

        raise LCAError(
            f"{that} is not the model that {this} was recorded from: parameter {differing} is {describe(found)}, "
            f"{describe(wanted)} was wanted ({len(found)} tensors with {other.size:,} parameters, "
            f"wanted {len(wanted)} with {self.size:,}). Give the problem it was trained on."
        )


@dataclass(frozen=True)
class Neurons:
    """The units of each layer: dense neurons or output channels, each with its slice of the kernel, bias and norm.

    layer, index: (neuron,), the layer of each and its number in it. bounds: (stretch + 1,), where in θ each stretch of
    parameters of one neuron begins, and where the last ends. owner: (stretch,), the neuron of each.
    """

    layer: list[str]
    index: list[int]
    bounds: NDArray[np.int64]
    owner: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.layer)

    @property
    def names(self) -> list[str]:
        """ "fc1[7]"."""
        return [f"{layer}[{i}]" for layer, i in zip(self.layer, self.index, strict=True)]

    @classmethod
    def of(cls, table: ParameterTable) -> Self:
        """The first dimension of a tensor is that of the units, as torch has it for dense layers and convolutions.

        A tensor with another number of units than its layer has units of its own, by its own name.
        """
        n_units = {p.layer: p.shape[0] if p.shape else 1 for p in reversed(table.entries)}  # its first tensor decides
        first: dict[str, int] = {}
        layer: list[str] = []
        index: list[int] = []
        starts, owners = [], []
        for p in table:
            n = p.shape[0] if p.shape else 1
            home = p.layer if n == n_units[p.layer] else p.name
            if home not in first:
                first[home] = len(layer)
                layer += [home] * n
                index += range(n)
            starts.append(p.offset + p.size // n * np.arange(n))
            owners.append(first[home] + np.arange(n))
        bounds = np.concatenate([*starts, [table.size]]).astype(np.int64)
        return cls(layer, index, bounds, np.concatenate(owners).astype(np.int64))


def named_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Name -> tensor of every parameter, tied ones once, in the order of θ.

    The names are those of the model itself, without what torch.compile, data-parallel and checkpointing wrappers add.
    """
    return _by_own_names(model, model.named_parameters())


def fixed(model: nn.Module) -> dict[str, Tensor]:
    """What L depends on besides θ: frozen parameters and buffers, but for running statistics, which it does not use."""
    running = {
        id(buffer)
        for module in model.modules()
        if getattr(module, "track_running_stats", False)
        for buffer in module.buffers(recurse=False)
    }
    frozen = {name: tensor for name, tensor in named_parameters(model).items() if not tensor.requires_grad}
    buffers = _by_own_names(model, model.named_buffers())
    return frozen | {name: buffer for name, buffer in buffers.items() if id(buffer) not in running}


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Those of named_parameters that require a gradient."""
    return {name: tensor for name, tensor in named_parameters(model).items() if tensor.requires_grad}


def device_of(model: nn.Module) -> torch.device:
    """Where its trainable parameters are."""
    return next(iter(trainable(model).values())).device


def views(vector: Tensor, table: ParameterTable) -> list[Tensor]:
    """vector (K,) -> one view of the parameter's own shape per tensor; no copy."""
    return [vector[p.span].view(p.shape) for p in table]


def flatten(model: nn.Module) -> Tensor:
    """The model's trainable parameters as one new vector θ (K,) on their device, see common_dtype."""
    tensors = trainable(model).values()
    dtype = common_dtype(tensors)
    return torch.cat([tensor.detach().reshape(-1).to(dtype) for tensor in tensors])


def common_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """What holds all of them without loss: float64 if one of them is that, else float32, also for 16 bits."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def sum_by_tensor(vector: Tensor, lengths: Tensor) -> Tensor:
    """vector (K,), lengths (tensor,) -> the sum over each tensor's stretch, (tensor,), on the vector's device."""
    return torch.segment_reduce(vector, "sum", lengths=lengths, unsafe=True)  # or it asks the device what lengths are


def norm_by_tensor(vector: Tensor, lengths: Tensor) -> Tensor:
    """vector (K,), lengths (tensor,) -> the L2 norm of each tensor's stretch, (tensor,), in float64."""
    return sum_by_tensor(vector.to(torch.float64, copy=True).square_(), lengths).sqrt()


def _by_own_names(model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Name -> tensor, without what wrappers add to a name."""
    wrapped = {f"{path}.{inner}".lstrip(".") for path, module in model.named_modules() if (inner := _inner(module))}

    def clean(name: str) -> str:
        parts = name.split(".")
        return ".".join(part for i, part in enumerate(parts, start=1) if ".".join(parts[:i]) not in wrapped)

    return {clean(name): tensor for name, tensor in tensors}


def _kind(module: nn.Module, leaf: str) -> Kind:
    if isinstance(module, NORMS):
        return "norm"
    return "bias" if "bias" in leaf else "kernel"


def _inner(module: nn.Module) -> str | None:
    """The name under which a wrapper holds the module that it wraps; None for any other module."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    return next((name for name in ("_orig_mod", "_checkpoint_wrapped_module") if name in module._modules), None)
