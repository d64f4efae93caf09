"""The parameter table: the position of every tensor in the flat vector θ (K,), and its layer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from math import prod
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from lca.errors import LCAError, UsageError
from lca.store.schema import LARGEST

Kind = Literal["kernel", "bias", "norm"]


@dataclass(frozen=True)
class Parameter:
    """One parameter tensor of the model and its position in θ: theta[offset : offset + size].

    Attributes:
        name: Name of the tensor in the model, such as "fc1.weight".
        shape: Shape of the tensor.
        offset: Index of its first element in θ.
        size: Number of elements.
        layer: Name of the layer, which is the module that holds the kernel. A bias belongs to the layer of its module,
            and a normalization to the layer before it.
        kind: "kernel", "bias" or "norm".
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    layer: str
    kind: Kind

    @property
    def span(self) -> slice:
        """The position of the tensor in θ, as a slice."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class ParameterTable(Sequence[Parameter]):
    """The trainable parameter tensors of a model, in the order of θ. Tied parameters appear once.

    The table is a sequence of `Parameter`.

    Attributes:
        entries: The tensors, in the order of θ.
    """

    entries: tuple[Parameter, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.entries)

    @property
    def size(self) -> int:
        """K, the total number of scalar parameters in all tensors."""
        return sum(parameter.size for parameter in self)

    @property
    def sizes(self) -> list[int]:
        """The number of parameters of each tensor."""
        return [parameter.size for parameter in self]

    @property
    def layers(self) -> list[str]:
        """The names of the layers, in the order in which they first occur."""
        return list(dict.fromkeys(parameter.layer for parameter in self))

    @property
    def layer_index(self) -> NDArray[np.int64]:
        """The index into `layers` of the layer of each tensor, with shape (tensor,)."""
        layers = self.layers
        return np.array([layers.index(parameter.layer) for parameter in self], np.int64)

    def rows(self, name: str) -> slice | NDArray[np.int64]:
        """Return the rows of `weights` and `lca` that belong to a tensor, or to all tensors of a layer.

        Args:
            name: Name of the tensor or layer.

        Returns:
            A slice if the rows are contiguous, as they nearly always are. Otherwise their indices, which can be passed
            to the `oindex` of a zarr array.

        Raises:
            UsageError: No tensor or layer has this name.

        Example:
            >>> run.allocation("train").lca[run.parameters.rows("fc1")]
        """
        spans = [p.span for p in self if name in (p.name, p.layer)]
        if not spans:
            known = ", ".join([*self.layers, *(p.name for p in self)])
            raise UsageError(f"no layer or tensor is called {name!r}", remedy=f"The names are {known}.")
        if all(a.stop == b.start for a, b in pairwise(spans)):
            return slice(spans[0].start, spans[-1].stop)
        return np.concatenate([np.arange(span.start, span.stop) for span in spans])

    def sum_by_layer(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum values of shape (…, tensor) over the tensors of each layer. The sums have shape (…, layer)."""
        sums = np.zeros((*values.shape[:-1], len(self.layers)))
        for i, layer in enumerate(self.layer_index):
            sums[..., layer] += values[..., i]
        return sums

    def to_json(self) -> list[dict[str, Any]]:
        """Return the table as a list of dictionaries, one per tensor."""
        return [asdict(parameter) for parameter in self]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Self:
        """Create a table from what `to_json` returned. Raise ValueError if it is not a valid table."""
        table, offset = cls(tuple(Parameter(**{**row, "shape": tuple(row["shape"])}) for row in rows)), 0
        for p in table:
            words = (p.name, p.layer, p.kind)
            if not all(type(n) is int and 0 <= n <= LARGEST for n in (*p.shape, p.offset, p.size)):
                raise ValueError(f"the parameter table has an invalid shape, offset or size for {p.name!r}")
            if not all(isinstance(word, str) for word in words) or p.kind not in get_args(Kind):
                raise ValueError(f"the parameter table has an invalid name, layer or kind for {p.name!r}")
            if (p.offset, p.size) != (offset, prod(p.shape)):
                found = f"offset {p.offset} and size {p.size}"
                raise ValueError(f"{p.name} has {found} instead of offset {offset} and size {prod(p.shape)}")
            offset += p.size
        return table

    def require_same(self, other: "ParameterTable", this: str, that: str) -> None:
        """Raise LCAError unless another table has tensors with the same names and shapes in the same order.

        Args:
            other: Table to compare with this one.
            this: Description of the source of this table, for the error message.
            that: Description of the source of the other table.
        """
        found, expected = [(p.name, p.shape) for p in other], [(p.name, p.shape) for p in self]
        if found == expected:
            return
        first = next(i for i in range(len(found) + 1) if found[i : i + 1] != expected[i : i + 1])

        def describe(rows: list[tuple[str, tuple[int, ...]]], table: ParameterTable) -> str:
            row = "no such tensor" if first >= len(rows) else f"{rows[first][0]} {rows[first][1]}"
            return f"{row} ({len(rows)} tensors with {table.size:,} parameters)"

        raise LCAError(
            f"{that} does not match the model that {this} was recorded from; tensor {first}",
            expected=describe(expected, self),
            found=describe(found, other),
            remedy="Pass the problem that the run was trained on, or runs of the same model.",
        )


def match_layers(pattern: str, layers: Sequence[str]) -> set[str]:
    """Return the layers selected by a name, a glob, "first" or "last". Raise UsageError if there are none."""
    if pattern in layers:
        return {pattern}
    if pattern in ("first", "last"):
        return {layers[0 if pattern == "first" else -1]}
    found = {layer for layer in layers if fnmatchcase(layer, pattern)}
    if not found:
        raise UsageError(
            f"no layer matches {pattern!r}",
            remedy=f"The layers are {', '.join(layers)}. You can also use first and last.",
        )
    return found
