"""The iterations of an allocation that an analysis uses, and the reasons for excluding the others."""

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
    """The iterations of an allocation that an analysis uses.

    An iteration is used if it converged. Excluded iterations are counted, and their values are never read as 0.

    Attributes:
        status: The ``lca.Status`` of each iteration, shape (T,).
        unconverged: Whether iterations that did not converge are used too.
    """

    status: NDArray[np.uint8]
    unconverged: bool = False

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Boolean array of shape (T,), True for the iterations that are used."""
        converged = self.status == Status.CONVERGED
        return np.asarray(converged | (self.status == Status.AT_LIMIT) if self.unconverged else converged)

    @property
    def exclusions(self) -> dict[str, int]:
        """The number of excluded iterations by reason."""
        numbers = {words: int(((self.status == why) & ~self.mask).sum()) for why, words in REASONS.items()}
        return {reason: n for reason, n in numbers.items() if n}

    @property
    def n(self) -> int:
        """The number of iterations that are used."""
        return int(self.mask.sum())

    def __and__(self, other: Self) -> "Iterations":
        """Return the iterations that are used in both of two allocations of the same run."""
        return Iterations(np.where(self.mask, other.status, self.status), self.unconverged)


def choose_iterations(allocation: Allocation, unconverged: bool = False) -> Iterations:
    """Choose the converged iterations and, if `unconverged` is set, those whose residual exceeds the tolerance.

    Raises LCAError if there are none.
    """
    found = Iterations(allocation.read("status"), unconverged)
    if not found.n:
        at_limit = found.exclusions.get(REASONS[Status.AT_LIMIT])
        remedy: Remedy = ("Finish the allocation, or replace it with ", allocation.remake(), ".")
        if at_limit:
            message = f"To include the {at_limit:,} iterations that did not converge, pass "
            remedy = (message, Argument("unconverged", True), ".")
        raise LCAError(
            f"{allocation.path} has no usable iteration: {_list_exclusions(found.exclusions)}", remedy=remedy
        )
    return found


def describe_exclusions(runs: Sequence[Iterations]) -> str:
    """Return "excluded: 3 not converged, 1 not finite", summed over all runs, or "" if no iteration is excluded."""
    totals = {reason: sum(run.exclusions.get(reason, 0) for run in runs) for reason in REASONS.values()}
    listed = _list_exclusions({reason: n for reason, n in totals.items() if n})
    return f"excluded: {listed}" if listed else ""


def _list_exclusions(exclusions: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in exclusions.items())
