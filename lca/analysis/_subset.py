"""How well does a subset of the examples do?     [left open by arXiv 1909.01440, section 6.2]

An allocation over a subset of the split costs that much less time. Its parts are compared with those of the allocation
over all examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis._helping import SignCounts
from lca.analysis.answer import Answer, Column, Table, format_whole
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import Tile, iterate_tiles
from lca.errors import Call, LCAError, UsageError
from lca.store.allocation import Allocation
from lca.store.run import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """An allocation over a subset compared with the one over all, in the iterations that count in both.

    examples: in the subset. correlation: Pearson's, of A over all parameters and iterations. of_parameters: that of the
    parameters' totals over time. same_sign: from 0 to 1, how many of the parts with A ≠ 0 over all examples have the
    same sign. layer_error: Σ|subset − all| / Σ|all| of the layers' totals. helping_error: of the percentage helping, in
    points.
    """

    examples: int
    correlation: float
    of_parameters: float
    same_sign: float
    layer_error: float
    helping_error: float


@dataclass(frozen=True, repr=False)
class Subset(Result):
    """agreements: by the name of the allocation, the smallest subset first. n_examples: of the one over all."""

    agreements: dict[str, Agreement]
    n_examples: int
    iterations: Iterations

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """A row for each subset that all runs have."""
        first = results[0]
        names = [name for name in first.agreements if all(name in result.agreements for result in results)]
        if not names:
            raise LCAError(
                "the runs have no allocation over a subset in common",
                remedy="Create one of the same name in each of them.",
            )

        def column(figure: str, scale: float = 100, digits: int = 2) -> Column:
            values = [[scale * getattr(result.agreements[name], figure) for name in names] for result in results]
            return Column(np.array(values), digits)

        columns = {
            "examples": Column.of([first.agreements[name].examples for name in names], text=format_whole),
            "correlation": column("correlation", 1, 4),
            "of parameters' totals": column("of_parameters", 1, 4),
            "same sign %": column("same_sign"),
            "layers off %": column("layer_error"),
            "helping off (points)": column("helping_error", 1),
        }
        note = f"compared with all {first.n_examples:,} examples"
        iterations = [result.iterations for result in results]
        return Answer("subset", [Table("subset", names, columns)], iterations, [note])


@dataclass
class Correlation:
    """Pearson's correlation of pairs that are added in parts."""

    sums: Floats = field(default_factory=lambda: np.zeros(6))  # n, Σx, Σy, Σx², Σy², Σxy

    def add(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
        x, y = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
        self.sums += [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y]

    @property
    def value(self) -> float:
        """NaN where one of them does not vary."""
        n, x, y, xx, yy, xy = self.sums
        spread = (n * xx - x * x) * (n * yy - y * y)
        return float((n * xy - x * y) / np.sqrt(spread)) if spread > 0 else float("nan")


@question
def subset(run: Run, *, name: str = "train", unconverged: bool = False, against: Sequence[str] = ()) -> Subset:
    """How well does a subset of the examples do?     [left open by arXiv 1909.01440, section 6.2]

    Compares allocations over a subset of the examples with the one over all of them.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation over all examples; it must hold the LCA of each parameter.
        unconverged: Whether iterations that did not converge count too.
        against: The allocations over a subset of the same split; all that are complete if empty.

    Returns:
        The agreement of each with the allocation over all examples, the smallest subset first.

    Raises:
        LCAError: If the run has no allocation over a subset, or no iteration counts.
        UsageError: If an allocation is of another split.

    Example:
        >>> lca.allocate("run.zarr", problem, examples=5000, name="subset-5000")
        >>> lca.analysis.subset("run.zarr")
    """
    reference = run.allocation(name)
    split = reference.attributes["split"]
    parts = [run.allocation(other) for other in against or find_subsets(run, name)]
    if not parts:
        raise LCAError(
            f"{run.path} has no allocation over a part of the examples of {name!r}",
            remedy=(
                "Create one with ",
                Call("allocate", run.path, split=split, examples=1000, name="subset-1000"),
                ".",
            ),
        )
    for part in parts:
        if part.attributes["split"] != split:
            other = f"one of the {part.attributes['split']} split"
            raise UsageError(part.name, expected=f"an allocation of the {split} split, as {name} is", found=other)
    chosen = choose_iterations(reference, unconverged)
    for part in parts:
        chosen &= choose_iterations(part, unconverged)
    parts.sort(key=lambda part: int(part.attributes["examples"]))
    agreements = {part.name: _measure_agreement(run, reference, part, chosen) for part in parts}
    return Subset(agreements, int(reference.attributes["examples"]), chosen)


def find_subsets(run: Run, name: str) -> list[str]:
    """The complete allocations over fewer examples of the same split that hold the LCA of each parameter."""
    reference = run.allocation(name)
    others = [run.allocation(other) for other in run.allocations]
    return [
        other.name
        for other in others
        if other.complete
        and "lca" in other.arrays
        and other.attributes["split"] == reference.attributes["split"]
        and other.attributes["examples"] < reference.attributes["examples"]
    ]


@dataclass
class _Sums:
    """Sums over the tiles of two allocations of a run, over all examples and over a subset.

    same, moved: how many parts have the same sign in both, and how many are not 0 over all examples.
    """

    parts: Correlation = field(default_factory=Correlation)
    totals: Correlation = field(default_factory=Correlation)
    same: int = 0
    moved: int = 0
    strips: dict[int, Floats] = field(default_factory=dict)  # by strip: (2, rows), its parameters' totals so far

    def add(self, of_all: Tile, of_part: Tile) -> None:
        a, b = of_all.counted_values, of_part.counted_values
        self.parts.add(a, b)
        self.same += _count_bits(of_all.helped_words & of_part.helped_words)
        self.same += _count_bits(of_all.hurt_words & of_part.hurt_words)
        self.moved += _count_bits(of_all.helped_words | of_all.hurt_words)
        sums = np.stack([x.sum(axis=1, dtype=np.float64) for x in (a, b)])
        sums += 0 if of_all.first else self.strips[of_all.rows.start]
        self.strips[of_all.rows.start] = sums
        if of_all.last:
            self.totals.add(*self.strips.pop(of_all.rows.start))


def _measure_agreement(run: Run, reference: Allocation, part: Allocation, chosen: Iterations) -> Agreement:
    sums, signs = _Sums(), [SignCounts(run.parameters, chosen) for _ in range(2)]
    pairs = zip(*(iterate_tiles(run, each.lca, chosen.counted) for each in (reference, part)), strict=True)
    for both in pairs:
        sums.add(*both)
        for counts, tile in zip(signs, both, strict=True):
            counts.add(tile)
    counted = chosen.counted[:, None]
    of_layers = [
        run.parameters.sum_by_layer(np.where(counted, allocation.read("tensor_lca"), 0)).sum(axis=0)
        for allocation in (reference, part)
    ]
    size = np.abs(of_layers[0]).sum()
    percentages = [counts.result(reference).percentage for counts in signs]
    return Agreement(
        examples=int(part.attributes["examples"]),
        correlation=sums.parts.value,
        of_parameters=sums.totals.value,
        same_sign=sums.same / sums.moved if sums.moved else float("nan"),
        layer_error=float(np.abs(of_layers[1] - of_layers[0]).sum() / size) if size else float("nan"),
        helping_error=percentages[1] - percentages[0],
    )


def _count_bits(words: NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(words).sum(dtype=np.int64))
