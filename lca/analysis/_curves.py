"""When did individual parameters learn?     [arXiv 1909.01440, section 2.2]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import Tile, feed
from lca.errors import UsageError
from lca.store.allocation import Allocation
from lca.store.chunks import read_part, verify_remedy
from lca.store.parameters import ParameterTable
from lca.store.run import Run

N_SELECTED = 5  # number of parameters that each of "best", "worst" and "random" selects
MAX_CURVES = 1_000  # largest number of parameters that can be selected

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Curves(Result):
    """The LCA of selected parameters over time. For several runs, there is one table per run.

    Attributes:
        run: Path of the run.
        names: Names of the parameters, such as "fc1.weight[3, 7]".
        index: Indices of the parameters in θ.
        lca: LCA in units of the loss, shape (parameters, T). NaN in excluded iterations.
        iterations: The iterations that were used.
    """

    run: str
    names: list[str]
    index: list[int]
    lca: Floats
    iterations: Iterations

    @property
    def cumulative(self) -> Floats:
        """The cumulative LCA, from the first iteration through each iteration, shape (parameters, T)."""
        return np.asarray(np.nancumsum(self.lca, axis=1))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the total LCA of each parameter, in one table per run because runs may select different parameters."""

        def table(result: Self) -> Table:
            total = Column.of(np.nansum(result.lca, axis=1), signed=True)
            title = f"selected parameters of {result.run}" if len(results) > 1 else ""
            return Table("parameter", result.names, {f"LCA ({result.unit})": total}, title)

        return Answer("curves", [table(result) for result in results], [result.iterations for result in results])


class ParameterTotals:
    """Sums the LCA of each parameter over the used iterations, from the tiles of `lca`. `totals` has shape (K,)."""

    def __init__(self, table: ParameterTable) -> None:
        self.totals = np.zeros(table.size)

    def add(self, tile: Tile) -> None:
        self.totals[tile.rows] += tile.used_values.sum(axis=1, dtype=np.float64)


@question
def curves(
    run: Run,
    *,
    parameters: Sequence[str] = ("best", "worst"),
    name: str = "train",
    seed: int = 0,
) -> Curves:
    """Read the LCA of individual parameters in every iteration.

    Source: arXiv 1909.01440, section 2.2.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        parameters: The parameters to select. "best", "worst" and "random" each select five parameters: those with the
            lowest total LCA, those with the highest, or a random choice. Other values select an index into θ ("4"), a
            whole tensor ("fc1.weight"), or one parameter of a tensor ("fc1.weight[3, 7]").
        name: Name of the allocation. It must contain the LCA of each parameter.
        seed: Random seed for "random".

    Returns:
        The LCA of each selected parameter in every iteration, in units of the loss (nats for cross-entropy).

    Raises:
        LCAError: If the run has no such allocation, or the allocation lacks the LCA of each parameter or has no usable
            iteration.
        UsageError: If a parameter is unknown, or more than 1,000 are selected.

    Example:
        >>> lca.analysis.curves("run.zarr", parameters=["best", "fc1.bias[0]"]).cumulative
    """
    allocation, table = run.allocation(name), run.parameters
    chosen = choose_iterations(allocation)
    order = np.zeros(0, np.int64)
    if {"best", "worst"} & set(parameters):
        totals = ParameterTotals(table)
        feed(run, allocation.lca, chosen.mask, [totals])
        order = np.argsort(totals.totals, kind="stable")
    selected: list[int] = []
    for text in parameters:
        if text == "random":
            n = min(N_SELECTED, table.size)
            selected += np.random.default_rng(seed).choice(table.size, n, replace=False).tolist()
        elif text in ("best", "worst"):
            selected += (order if text == "best" else order[::-1])[:N_SELECTED].tolist()
        else:
            selected += _find_indices(text, table)
    selected = list(dict.fromkeys(selected))
    if len(selected) > MAX_CURVES:
        raise UsageError("parameters", expected=f"at most {MAX_CURVES:,} parameters", found=f"{len(selected):,}")
    lca = np.where(chosen.mask, _read_rows(allocation, selected), np.nan)
    return Curves(str(run.path), [name_parameter(i, table) for i in selected], selected, lca, chosen)


def _read_rows(allocation: Allocation, selected: Sequence[int]) -> Floats:
    """Read the LCA of the selected parameters, shape (parameters, T). Adjacent parameters are read together."""
    rows = np.empty((len(selected), allocation.n_iterations))
    order = np.argsort(selected)
    ascending = np.asarray(selected, np.int64)[order]
    for part in np.split(np.arange(len(selected)), np.flatnonzero(np.diff(ascending) > 1) + 1):
        if len(part):
            where = slice(int(ascending[part[0]]), int(ascending[part[-1]]) + 1)
            rows[order[part]] = read_part(
                allocation.lca, where, f"{allocation.path}/lca", verify_remedy(allocation.run_path)
            )
    return rows


def name_parameter(index: int, table: ParameterTable) -> str:
    """Return the name of one parameter of θ, such as "fc1.weight[3, 7]"."""
    parameter = next(p for p in table if index < p.offset + p.size)
    at = np.unravel_index(index - parameter.offset, parameter.shape)
    return f"{parameter.name}[{', '.join(map(str, at))}]" if parameter.shape else parameter.name


def _find_indices(text: str, table: ParameterTable) -> list[int]:
    """Return the indices into θ that `text` selects.

    `text` is an index, the name of a tensor, or an element of a tensor such as "fc1.weight[3, 7]".
    """
    tensor, bracket, at = text.partition("[")
    found = next((p for p in table if p.name == tensor), None)
    try:
        if text.isdecimal() and int(text) < table.size:
            return [int(text)]
        if found and not bracket:
            return list(range(found.offset, found.offset + found.size))
        if found:
            place = tuple(int(part) for part in at.removesuffix("]").split(","))
            return [found.offset + int(np.ravel_multi_index(place, found.shape))]
    except ValueError:  # indices that are not numbers, are too many or too few, or are out of range
        pass
    shapes = ", ".join(f"{p.name}{list(p.shape)}" for p in table)
    raise UsageError(
        f"no parameter {text!r}",
        remedy=f"Pass best, worst, random, an index from 0 to {table.size - 1:,}, the name of a tensor, or an element "
        f"of a tensor such as fc1.weight[3,7]. The tensors are {shapes}.",
    )
