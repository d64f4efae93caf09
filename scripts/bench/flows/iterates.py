"""The trajectory that every method is given: θ_0 … θ_T in a file of raw float32, read a row at a time.

So a method's memory holds the iterates that it keeps itself, and no more.
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
    """K: parameters in a row."""

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


def copied(run: Run, path: Path) -> Iterates:
    """Those of a run store."""
    with path.open("wb") as file:
        for begin in range(0, run.n_iterates, run.block):
            np.ascontiguousarray(run.weights[:, begin : begin + run.block].T).tofile(file)
    return Iterates(path, run.parameters.size)
