"""How well does an allocation over a subset of the examples agree with the full allocation?

An allocation over a subset of the split takes proportionally less time. Its parts are compared with the parts of the
allocation over all examples. arXiv 1909.01440, section 6.2, leaves this question open.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis._helping import SignCounts
from lca.analysis.answer import Answer, Column, Table, format_whole
from lca.analysis.cancellation import iterate_lca
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import Tile
from lca.errors import Argument, Call, LCAError, UsageError
from lca.store.allocation import Allocation
from lca.store.run import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """The agreement of an allocation over a subset of the examples with the allocation over all examples.

    The allocations are compared in the iterations that are used in all of them. A is the LCA of every parameter in
    every iteration.

    Attributes:
        examples: Number of examples in the subset.
        correlation: Pearson correlation of A over all parameters and iterations.
        of_parameters: Pearson correlation of the total LCA of the parameters.
        same_sign: Fraction, from 0 to 1, of the non-zero values of A over all examples that have the same sign over the
            subset.
        layer_error: Relative error ``Σ|subset − all| / Σ|all|`` of the total LCA of the layers, as a fraction.
        helping_error: Percentage of parameters that help over the subset minus the percentage over all examples, in
            percentage points.
    """

    examples: int
    correlation: float
    of_parameters: float
    same_sign: float
    layer_error: float
    helping_error: float


@dataclass(frozen=True, repr=False)
class Subset(Result):
    """The agreement of allocations over subsets of the examples with the allocation over all examples.

    Attributes:
        agreements: Agreement of each subset's allocation, by its name, in ascending order of the number of examples.
        n_examples: Number of examples in the full allocation.
        iterations: The iterations that are used in all compared allocations.
    """

    agreements: dict[str, Agreement]
    n_examples: int
    iterations: Iterations

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the agreement of each subset that all runs have in common."""
        first = results[0]
        names = [name for name in first.agreements if all(name in result.agreements for result in results)]
        if not names:
            raise LCAError(
                "the runs have no allocation over a subset in common",
                remedy="In every run, create an allocation over a subset, with the same name.",
            )

        def column(figure: str, scale: float = 100, digits: int = 2) -> Column:
            values = [[scale * getattr(result.agreements[name], figure) for name in names] for result in results]
            return Column(np.array(values), digits)

        columns = {
            "examples": Column.of([first.agreements[name].examples for name in names], text=format_whole),
            "correlation": column("correlation", 1, 4),
            "correlation of totals": column("of_parameters", 1, 4),
            "same sign %": column("same_sign"),
            "layer error %": column("layer_error"),
            "helping error (points)": column("helping_error", 1),
        }
        notes = [
            f"Each subset is compared with the allocation over all {first.n_examples:,} examples.",
            "correlation: of the LCA of every parameter and iteration. correlation of totals: of each parameter's "
            "total LCA.",
            "layer error %: Σ|subset − all| / Σ|all|, summed over layers, where each term is the total LCA of a layer.",
            "helping error: percentage of parameters that help over the subset minus the percentage over all examples.",
        ]
        iterations = [result.iterations for result in results]
        return Answer("subset", [Table("subset", names, columns)], iterations, notes)


@dataclass
class Correlation:
    """Pearson correlation of pairs of values that are added piece by piece."""

    sums: Floats = field(default_factory=lambda: np.zeros(6))  # n, Σx, Σy, Σx², Σy², Σxy

    def add(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
        x, y = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
        self.sums += [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y]

    @property
    def value(self) -> float:
        """The correlation, or NaN if one of the two variables is constant."""
        n, x, y, xx, yy, xy = self.sums
        spread = (n * xx - x * x) * (n * yy - y * y)
        return float((n * xy - x * y) / np.sqrt(spread)) if spread > 0 else float("nan")


@question
def subset(run: Run, *, name: str = "train", against: Sequence[str] = ()) -> Subset:
    """Compare allocations over subsets of the examples with the allocation over all examples.

    arXiv 1909.01440, section 6.2, leaves open how well a subset approximates the whole split.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation over all examples. It must contain the LCA of each parameter.
        against: Names of allocations over subsets of the same split. If empty, all complete ones with the LCA of each
            parameter are compared.

    Returns:
        The agreement of each subset with the allocation over all examples, in ascending order of size.

    Raises:
        LCAError: If the run has no allocation over a subset, or an allocation lacks the LCA of each parameter or has no
            usable iteration.
        UsageError: If an allocation belongs to a different split.

    Example:
        >>> lca.allocate("run.zarr", problem, examples=5000, name="subset-5000")
        >>> lca.analysis.subset("run.zarr")
    """
    reference = run.allocation(name)
    split = reference.attributes["split"]
    if name in against:
        raise UsageError(
            f"{name!r} would be compared with itself", remedy=("Pass other allocations as ", Argument("against"), ".")
        )
    parts = [run.allocation(other) for other in against or find_subsets(run, name)]
    if not parts:
        raise LCAError(
            f"{run.path} has no allocation over a subset of the examples of {name!r}",
            remedy=(
                "Create one with ",
                Call("allocate", run.path, split=split, examples=1000, name="subset-1000"),
                ".",
            ),
        )
    for part in parts:
        if part.attributes["split"] != split:
            other = f"the {part.attributes['split']} split"
            raise UsageError(f"allocation {part.name!r}", expected=f"the {split} split, like {name!r}", found=other)
    chosen = choose_iterations(reference)
    for part in parts:
        chosen &= choose_iterations(part)
    parts.sort(key=lambda part: int(part.attributes["examples"]))
    agreements = {part.name: _measure_agreement(run, reference, part, chosen) for part in parts}
    return Subset(agreements, int(reference.attributes["examples"]), chosen)


def find_subsets(run: Run, name: str) -> list[str]:
    """Return the names of complete allocations with the LCA of each parameter over fewer examples of the same split."""
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
    """Sums over the tiles of an allocation over all examples and of an allocation over a subset.

    `moved` counts the values that are not 0 over all examples, and `same` those with the same sign in both allocations.
    """

    parts: Correlation = field(default_factory=Correlation)
    totals: Correlation = field(default_factory=Correlation)
    same: int = 0
    moved: int = 0
    strips: dict[int, Floats] = field(default_factory=dict)  # by strip: total LCA of its parameters so far, (2, rows)

    def add(self, of_all: Tile, of_part: Tile) -> None:
        a, b = of_all.used_values, of_part.used_values
        self.parts.add(a, b)
        self.same += _count_bits(of_all.negative_words & of_part.negative_words)
        self.same += _count_bits(of_all.positive_words & of_part.positive_words)
        self.moved += _count_bits(of_all.negative_words | of_all.positive_words)
        sums = np.stack([x.sum(axis=1, dtype=np.float64) for x in (a, b)])
        sums += 0 if of_all.first else self.strips[of_all.rows.start]
        self.strips[of_all.rows.start] = sums
        if of_all.last:
            self.totals.add(*self.strips.pop(of_all.rows.start))


def _measure_agreement(run: Run, reference: Allocation, part: Allocation, chosen: Iterations) -> Agreement:
    sums, signs = _Sums(), [SignCounts(run.parameters, chosen) for _ in range(2)]
    pairs = zip(*(iterate_lca(run, each, chosen.mask) for each in (reference, part)), strict=True)
    for both in pairs:
        sums.add(*both)
        for counts, tile in zip(signs, both, strict=True):
            counts.add(tile)
    mask = chosen.mask[:, None]
    of_layers = [
        run.parameters.sum_by_layer(np.where(mask, allocation.read("tensor_lca"), 0)).sum(axis=0)
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
