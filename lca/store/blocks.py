"""Blocks of iterations: the unit in which a run is written, resumed and shared among processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Blocks(Sequence[slice]):
    """A division of n iterations (or iterates) into blocks of `length`. The last block may be shorter.

    `blocks[i]` is the slice of block i. The iterates of a block of iterations are the points at which its iterations
    start. The last block also contains the final iterate θ_T.
    """

    n: int
    length: int

    def __len__(self) -> int:
        return ceil_div(self.n, self.length)

    def __getitem__(self, block: Any) -> Any:
        if not 0 <= block < len(self):
            raise IndexError(block)
        return slice(block * self.length, min((block + 1) * self.length, self.n))

    def range(self, block: int) -> range:
        """Return the iterations of a block."""
        span = self[block]
        return range(span.start, span.stop)

    def iterates(self, block: int) -> slice:
        """Return the slice of iterates that belong to a block of iterations."""
        span = self[block]
        return slice(span.start, span.stop + (span.stop == self.n))

    def locate(self, t: int) -> tuple[int, int]:
        """Return the block that contains iteration t, and the position of t in that block."""
        return divmod(t, self.length)
