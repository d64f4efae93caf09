"""Which iterations of an allocation count, and why the others do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.errors import LCAError
from lca.integrate import Status
from lca.store import Allocation
from lca.summary import read

REASONS = {
    Status.NOT_ALLOCATED: "not allocated",
    Status.AT_LIMIT: "not converged",
    Status.NOT_FINITE: "not finite",
}


@dataclass(frozen=True)
class Iterations:
    """counted: (T,), which iterations count. left_out: how many do not, by reason; one that does not is never a 0."""

    counted: NDArray[np.bool_]
    left_out: dict[str, int]

    @property
    def n(self) -> int:
        """How many count."""
        return int(self.counted.sum())

    @property
    def n_left_out(self) -> int:
        return sum(self.left_out.values())

    def __and__(self, other: Self) -> "Iterations":
        """Those that count in both, in two allocations of one run; left out is what lacks in either."""
        reasons = self.left_out | other.left_out
        most = {reason: max(self.left_out.get(reason, 0), other.left_out.get(reason, 0)) for reason in reasons}
        return Iterations(self.counted & other.counted, most)


def iterations(allocation: Allocation, unconverged: bool = False) -> Iterations:
    """Those that converged; with unconverged also those whose residual stayed over the tolerance.

    Raises LCAError if none is left: an answer from nothing would look like one.
    """
    status = read(allocation, "status")
    left_out = {status for status in REASONS if not (unconverged and status == Status.AT_LIMIT)}
    counted = ~np.isin(status, list(left_out))
    numbers = {REASONS[why]: int((status == why).sum()) for why in REASONS if why in left_out}
    found = Iterations(counted, {reason: n for reason, n in numbers.items() if n})
    if not found.n:
        at_limit = found.left_out.get(REASONS[Status.AT_LIMIT])
        advice = (
            f"{at_limit:,} did not converge; count them all the same with --unconverged."
            if at_limit
            else f"Allocate with `lca allocate {allocation.run.path}`."
        )
        raise LCAError(f"no iteration of {allocation.path} counts, of {len(status):,}. {advice}")
    return found


def described(runs: Sequence[Iterations]) -> str:
    """ "left out: 3 not converged, 1 not finite" over all runs; nothing if nothing is."""
    totals = {reason: sum(run.left_out.get(reason, 0) for run in runs) for reason in REASONS.values()}
    words = [f"{n:,} {reason}" for reason, n in totals.items() if n]
    return f"left out: {', '.join(words)}" if words else ""
