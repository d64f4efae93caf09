"""Which iterations of an allocation count, and why the others do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.errors import Argument, LCAError, Remedy
from lca.store.allocation import Allocation
from lca.store.schema import Status

REASONS = {
    Status.NOT_ALLOCATED: "not allocated",
    Status.AT_LIMIT: "not converged",
    Status.NOT_FINITE: "not finite",
}


@dataclass(frozen=True)
class Iterations:
    """status: (T,), of each, as the schema has it. unconverged: whether those that did not converge count as well.

    What does not count is left out, and never read as 0.
    """

    status: NDArray[np.uint8]
    unconverged: bool = False

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """(T,), which of them count."""
        counted = self.status == Status.CONVERGED
        return np.asarray(counted | (self.status == Status.AT_LIMIT) if self.unconverged else counted)

    @property
    def left_out(self) -> dict[str, int]:
        """How many do not, by reason."""
        numbers = {words: int(((self.status == why) & ~self.counted).sum()) for why, words in REASONS.items()}
        return {reason: n for reason, n in numbers.items() if n}

    @property
    def n(self) -> int:
        """How many count."""
        return int(self.counted.sum())

    def __and__(self, other: Self) -> "Iterations":
        """Those that count in both, in two allocations of one run."""
        return Iterations(np.where(self.counted, other.status, self.status), self.unconverged)


def choose_iterations(allocation: Allocation, unconverged: bool = False) -> Iterations:
    """Those that converged; with unconverged also those whose residual stayed over the tolerance.

    Raises LCAError if none is left: an answer from nothing would look like one.
    """
    found = Iterations(allocation.read("status"), unconverged)
    if not found.n:
        at_limit = found.left_out.get(REASONS[Status.AT_LIMIT])
        remedy: Remedy = ("Finish the allocation, or replace it with ", allocation.remake(), ".")
        if at_limit:
            remedy = ("To count the ", f"{at_limit:,} that did not converge, pass ", Argument("unconverged", True), ".")
        raise LCAError(f"no iteration of {allocation.path} counts, of {len(found.status):,}", remedy=remedy)
    return found


def describe_left_out(runs: Sequence[Iterations]) -> str:
    """ "left out: 3 not converged, 1 not finite" over all runs; nothing if nothing is."""
    totals = {reason: sum(run.left_out.get(reason, 0) for run in runs) for reason in REASONS.values()}
    words = [f"{n:,} {reason}" for reason, n in totals.items() if n]
    return f"left out: {', '.join(words)}" if words else ""
