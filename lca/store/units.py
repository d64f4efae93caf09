"""The units of each layer: dense neurons or output channels."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.store.parameters import ParameterTable


@dataclass(frozen=True)
class Units:
    """The neurons or output channels of a model, each with its slice of the kernel, bias and norm.

    layer, index: (unit,), the layer of each and its number in it. bounds: (stretch + 1,), where in θ each contiguous
    stretch of parameters of one unit begins, and where the last one ends. owner: (stretch,), the unit of each.
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

        A tensor with another number of units than its layer has units of its own, named after the tensor.
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
