"""The iterations of an allocation that an analysis uses, and the reasons for excluding the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.errors import LCAError
from lca.store.allocation import Allocation
from lca.store.schema import Status
from lca.store.summary import is_counted
from lca.text import number, pluralize

REASONS = {Status.NOT_ALLOCATED: "not allocated", Status.NOT_FINITE: "not finite"}
NOISE = 1e-5  # differences below this fraction of the largest loss may be rounding errors
SAME_TOTAL = 0.01  # relative difference between Σ A and the loss change above which a warning is given

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Iterations:
    """The iterations of an allocation that an analysis uses.

    An iteration is used if it is allocated and finite, whether it converged or not. Excluded iterations are counted,
    and their values are never read as 0.

    Attributes:
        status: The ``lca.Status`` of each iteration, shape (T,).
        loss: L(θ_t) at every iterate, shape (T + 1,).
        allocated: Σ A of each iteration, shape (T,).
        residual: Σ A minus the loss change of each iteration, shape (T,).
        unit: Unit of the loss.
    """

    status: NDArray[np.uint8]
    loss: Floats
    allocated: Floats
    residual: Floats
    unit: str

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Boolean array of shape (T,), True for the iterations that are used."""
        return is_counted(self.status)

    @property
    def exclusions(self) -> dict[str, int]:
        """The number of excluded iterations by reason."""
        numbers = {words: int((self.status == why).sum()) for why, words in REASONS.items()}
        return {reason: n for reason, n in numbers.items() if n}

    @property
    def n(self) -> int:
        """The number of iterations that are used."""
        return int(self.mask.sum())

    @property
    def unconverged(self) -> NDArray[np.bool_]:
        """Boolean array of shape (T,), True for the iterations that are used although they did not converge."""
        return np.asarray(self.status == Status.AT_LIMIT)

    @property
    def sum_of_parts(self) -> float:
        """Σ A over the iterations that are used."""
        return float(self.allocated[self.mask].sum())

    @property
    def change(self) -> float:
        """The loss change that Σ A is compared with.

        It is L(θ_T) − L(θ_0) if all iterations are allocated and both losses are finite. Otherwise, it is the sum of
        the loss changes of the iterations that are used.
        """
        ends = float(self.loss[-1] - self.loss[0])
        if np.isfinite(ends) and not (self.status == Status.NOT_ALLOCATED).any():
            return ends
        return float((self.allocated - self.residual)[self.mask].sum())

    def __and__(self, other: Self) -> "Iterations":
        """Return the iterations that are used in both this and another allocation of the same run."""
        return replace(self, status=np.where(self.mask & ~other.mask, other.status, self.status))


def read_iterations(allocation: Allocation) -> Iterations:
    """Return the iterations that are allocated and finite, of which there may be none."""
    status, loss, allocated, residual = map(allocation.read, ("status", "loss", "allocated", "residual"))
    return Iterations(status, loss, allocated, residual, allocation.attributes["unit"])


def choose_iterations(allocation: Allocation) -> Iterations:
    """Choose the iterations that are allocated and finite. Raises LCAError if there are none."""
    found = read_iterations(allocation)
    if not found.n:
        raise LCAError(
            f"{allocation.path} has no usable iteration: {_list_exclusions(found.exclusions)}",
            remedy=("Finish the allocation, or replace it with ", allocation.remake(), "."),
        )
    return found


def describe_exclusions(runs: Sequence[Iterations]) -> str:
    """Return text such as "excluded: 3 not allocated, 1 not finite", summed over runs. Empty if none is excluded."""
    totals = {reason: sum(run.exclusions.get(reason, 0) for run in runs) for reason in REASONS.values()}
    listed = _list_exclusions({reason: n for reason, n in totals.items() if n})
    return f"excluded: {listed}" if listed else ""


def describe_totals(runs: Sequence[Iterations]) -> list[str]:
    """Return a sentence that states Σ A and the loss change, averaged over runs, and a warning if they differ."""
    parts, change = (float(np.mean(values)) for values in zip(*((r.sum_of_parts, r.change) for r in runs), strict=True))
    everything = all(run.mask.all() for run in runs)
    name = "L_T − L_0" if everything else "the loss change"
    sentences = [f"Σ A = {number(parts, 5)} {runs[0].unit}, {name} = {number(change, 5)} {runs[0].unit}."]
    worst = max(runs, key=lambda run: abs(run.sum_of_parts - run.change) / (abs(run.change) or np.inf))
    difference = abs(worst.sum_of_parts - worst.change)
    if difference > SAME_TOTAL * abs(worst.change) and difference > NOISE * np.nanmax(np.abs(worst.loss)):
        fraction = f"{100 * difference / abs(worst.change):.2g} % of this change" if worst.change else "which is 0"
        sentences.append(
            f"WARNING: Σ A and the loss change differ by {number(difference, 3)} {worst.unit} ({fraction}). Sums "
            "over iterations are off by as much."
        )
    return sentences


def describe_unconverged(runs: Sequence[Iterations]) -> list[str]:
    """Return a sentence with the number of unconverged iterations and their total residual, or [] if all converged."""
    n = sum(int(run.unconverged.sum()) for run in runs)
    if not n:
        return []
    off = sum(float(np.abs(run.residual[run.unconverged]).sum()) for run in runs)
    did = f"{pluralize(n, 'iteration')} did not converge"
    return [f"{did}. Their residuals, {number(off, 3)} {runs[0].unit} in total, are part of every sum."]


def _list_exclusions(exclusions: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in exclusions.items())
