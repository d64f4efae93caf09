"""Single parameters, each with a training curve of its own.     [arXiv 1909.01440, section 2.2]"""

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
from lca.store.chunks import read_part
from lca.store.parameters import ParameterTable
from lca.store.run import Run, verify_remedy

N_SELECTED = 5  # parameters that "best", "worst" and "random" select
MAX_CURVES = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Curves(Result):
    """The LCA of single parameters over time.

    run: the path of the run. names: such as "fc1.weight[3, 7]". index: their places in θ. lca: (parameter, T), in the
    loss's unit, NaN in an iteration that does not count.
    """

    run: str
    names: list[str]
    index: list[int]
    lca: Floats
    iterations: Iterations

    @property
    def cumulative(self) -> Floats:
        """(parameter, T), from the first iteration to this one."""
        return np.asarray(np.nancumsum(self.lca, axis=1))

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The total LCA of each parameter, in one table per run because runs may select different parameters."""

        def table(result: Self) -> Table:
            total = Column.of(np.nansum(result.lca, axis=1), 6)
            title = f"the parameters of {result.run}" if len(results) > 1 else ""
            return Table("parameter", result.names, {"LCA (nats)": total}, title)

        return Answer("curves", [table(result) for result in results], [result.iterations for result in results])


class ParameterTotals:
    """Takes the tiles of `lca`. totals: (K,), over the iterations that count."""

    def __init__(self, table: ParameterTable) -> None:
        self.totals = np.zeros(table.size)

    def add(self, tile: Tile) -> None:
        self.totals[tile.rows] += tile.counted_values.sum(axis=1, dtype=np.float64)


@question
def curves(
    run: Run,
    *,
    parameters: Sequence[str] = ("best", "worst"),
    name: str = "train",
    unconverged: bool = False,
    seed: int = 0,
) -> Curves:
    """When did single parameters learn?     [arXiv 1909.01440, section 2.2]

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        parameters: "best", "worst" or "random" for five each, by their total LCA or drawn at random; an index into θ,
            such as "4"; the name of a tensor for all of it, "fc1.weight", or for one of it, "fc1.weight[3, 7]".
        name: The allocation to ask about; it must hold the LCA of each parameter.
        unconverged: Whether iterations that did not converge count too.
        seed: The seed of "random".

    Returns:
        The LCA of each of the parameters in every iteration, in the loss's unit (nats for cross-entropy).

    Raises:
        LCAError: If the run has no such allocation, or no iteration of it counts.
        UsageError: If a parameter is unknown, or more than 1,000 are selected.

    Example:
        >>> lca.analysis.curves("run.zarr", parameters=["best", "fc1.bias[0]"]).cumulative
    """
    allocation, table = run.allocation(name), run.parameters
    chosen = choose_iterations(allocation, unconverged)
    order = np.zeros(0, np.int64)
    if {"best", "worst"} & set(parameters):
        totals = ParameterTotals(table)
        feed(run, allocation.lca, chosen.counted, [totals])
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
        raise UsageError("parameters", expected=f"at most {MAX_CURVES:,} of them", found=f"{len(selected):,}")
    lca = np.where(chosen.counted, _read_rows(allocation, selected), np.nan)
    return Curves(str(run.path), [name_parameter(i, table) for i in selected], selected, lca, chosen)


def _read_rows(allocation: Allocation, selected: Sequence[int]) -> Floats:
    """The LCA of these parameters, (parameter, T); neighbours are read together."""
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
    """The name of a single parameter of θ, such as "fc1.weight[3, 7]"."""
    parameter = next(p for p in table if index < p.offset + p.size)
    at = np.unravel_index(index - parameter.offset, parameter.shape)
    return f"{parameter.name}[{', '.join(map(str, at))}]" if parameter.shape else parameter.name


def _find_indices(text: str, table: ParameterTable) -> list[int]:
    """The places in θ that an index, a tensor or a single parameter of a tensor stands for."""
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
    except ValueError:  # no numbers, too many of them, or out of range
        pass
    shapes = ", ".join(f"{p.name}{list(p.shape)}" for p in table)
    raise UsageError(
        f"no parameter {text!r}",
        remedy=f"Pass best, worst or random, an index from 0 to {table.size - 1:,}, a tensor, or one of its "
        f"parameters as in fc1.weight[3,7]. The tensors are {shapes}.",
    )
