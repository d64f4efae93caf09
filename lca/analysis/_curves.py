"""Single parameters, each with a training curve of its own.     [arXiv 1909.01440, section 2.2]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lca.analysis.iterations import Iterations, iterations
from lca.analysis.tiles import Tile, feed
from lca.errors import UsageError
from lca.store.allocation import Allocation
from lca.store.parameters import ParameterTable
from lca.store.run import Run

ORDERED = ("best", "worst", "random")
N_DRAWN = 5
MAX_CURVES = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """names: such as "fc1.weight[3, 7]". lca: (parameter, T), in the loss's unit, NaN in what does not count."""

    names: list[str]
    index: list[int]
    lca: Floats
    iterations: Iterations

    @property
    def cumulative(self) -> Floats:
        """(parameter, T), from the first iteration to this one."""
        return np.asarray(np.nancumsum(self.lca, axis=1))


class ParameterTotals:
    """Takes the tiles of `lca`. totals: (K,), over the iterations that count."""

    def __init__(self, table: ParameterTable) -> None:
        self.totals = np.zeros(table.size)

    def add(self, tile: Tile) -> None:
        self.totals[tile.rows] += tile.counted_values.sum(axis=1, dtype=np.float64)


def curves(
    run: Run, which: Sequence[str] = ("best", "worst"), name: str = "train", unconverged: bool = False, seed: int = 0
) -> Curves:
    """The curves of some parameters.

    which: "best", "worst" or "random" for five each, by their total LCA or drawn by seed; an index into θ, such as "4";
    a tensor's name for all of it, "fc1.weight", or for one of it, "fc1.weight[3, 7]".
    """
    allocation, table = run.allocation(name), run.parameters
    chosen = iterations(allocation, unconverged)
    order = np.zeros(0, np.int64)
    if {"best", "worst"} & set(which):
        totals = ParameterTotals(table)
        feed(run, allocation.lca, chosen.counted, [totals])
        order = np.argsort(totals.totals, kind="stable")
    wanted: list[int] = []
    for text in which:
        if text == "random":
            n = min(N_DRAWN, table.size)
            wanted += np.random.default_rng(seed).choice(table.size, n, replace=False).tolist()
        elif text in ORDERED:
            wanted += (order if text == "best" else order[::-1])[:N_DRAWN].tolist()
        else:
            wanted += _indices(text, table)
    wanted = list(dict.fromkeys(wanted))
    if len(wanted) > MAX_CURVES:
        raise UsageError(f"{len(wanted):,} parameters were asked for; {MAX_CURVES:,} curves are the most.")
    rows = _rows(allocation, wanted)
    return Curves([name_of(i, table) for i in wanted], wanted, np.where(chosen.counted, rows, np.nan), chosen)


def _rows(allocation: Allocation, wanted: Sequence[int]) -> Floats:
    """The LCA of these parameters, (parameter, T); neighbours are read together."""
    rows = np.empty((len(wanted), allocation.run.n_iterations))
    order = np.argsort(wanted)
    ascending = np.asarray(wanted, np.int64)[order]
    for part in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(ascending) > 1) + 1):
        if len(part):
            rows[order[part]] = allocation.lca[int(ascending[part[0]]) : int(ascending[part[-1]]) + 1]
    return rows


def name_of(index: int, table: ParameterTable) -> str:
    """The name of a single parameter of θ."""
    parameter = next(p for p in table if index < p.offset + p.size)
    at = np.unravel_index(index - parameter.offset, parameter.shape)
    return f"{parameter.name}[{', '.join(map(str, at))}]" if parameter.shape else parameter.name


def _indices(text: str, table: ParameterTable) -> list[int]:
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
        f"no parameter {text!r}. Give best, worst or random, an index from 0 to {table.size - 1:,}, a tensor, or "
        f"one of its parameters as in fc1.weight[3,7]; there are {shapes}."
    )
