"""The trajectory that is replayed to every method: θ_0 … θ_T in a file of raw float32, read row by row.

The memory of a method therefore contains only the iterates that it keeps itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lca.store.run import Run

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Iterates:
    """The iterates θ_t (K,) in a file. Supports len, indexing and iteration."""

    path: Path
    K: int

    def __len__(self) -> int:
        return self.path.stat().st_size // (4 * self.K)

    def __getitem__(self, t: int) -> Vector:
        if not 0 <= t < len(self):
            raise IndexError(t)
        return np.fromfile(self.path, np.float32, self.K, offset=4 * self.K * t)

    def __iter__(self) -> Iterator[Vector]:
        return (self[t] for t in range(len(self)))


def copy_iterates(run: Run, path: Path) -> Iterates:
    """Write the iterates of a run to a file."""
    with path.open("wb") as file:
        for span in run.iterate_blocks:
            np.asarray(run.weights[:, span]).T.tofile(file)
    return Iterates(path, run.parameters.size)
