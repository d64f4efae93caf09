"""The division of a run into blocks: the unit of writing, of resuming and of sharing work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Blocks(Sequence[slice]):
    """n iterations (or iterates) in blocks of `length`, the last of which may be shorter; blocks[i] is a slice of them.

    The iterates of a block of iterations are the starts of its iterations; those of the last block include θ_T.
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
        """The iterations of a block."""
        span = self[block]
        return range(span.start, span.stop)

    def iterates(self, block: int) -> slice:
        """The iterates that go with a block of iterations."""
        span = self[block]
        return slice(span.start, span.stop + (span.stop == self.n))

    def locate(self, t: int) -> tuple[int, int]:
        """The block that holds t, and the position of t in it."""
        return divmod(t, self.length)
