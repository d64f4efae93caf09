"""The units of each layer: neurons of dense layers and output channels of convolutions."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.store.parameters import ParameterTable


@dataclass(frozen=True)
class Units:
    """The neurons or output channels of a model, each with its slices of the kernel, bias and norm of its layer.

    `layer` and `index` contain the layer of each unit and its index within the layer. θ is divided into contiguous
    ranges that each belong to one unit: `bounds` contains the start of each range in θ and the end of the last one, and
    `owner` the unit that each range belongs to.
    """

    layer: list[str]
    index: list[int]
    bounds: NDArray[np.int64]
    owner: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.layer)

    @property
    def names(self) -> list[str]:
        """The names of the units, such as "fc1[7]"."""
        return [f"{layer}[{i}]" for layer, i in zip(self.layer, self.index, strict=True)]

    @classmethod
    def of(cls, table: ParameterTable) -> Self:
        """Find the units of a parameter table.

        The first dimension of a tensor is assumed to index the units, as in the dense layers and convolutions of torch.
        If a tensor has a different number of units than its layer, it forms separate units, named after the tensor.
        """
        n_units = {p.layer: p.shape[0] if p.shape else 1 for p in reversed(table.entries)}  # set by the first tensor
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
            starts.append(p.offset + p.size // max(n, 1) * np.arange(n))
            owners.append(first[home] + np.arange(n))
        bounds = np.concatenate([*starts, [table.size]]).astype(np.int64)
        return cls(layer, index, bounds, np.concatenate(owners).astype(np.int64))
