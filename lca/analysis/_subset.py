"""How well does a subset of the examples do?     [left open by arXiv 1909.01440, section 6.2]

An allocation over a part of the split costs that part of the time. It is compared, part by part, with the one over all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lca.analysis._helping import SignCounts
from lca.analysis.answer import Column, Report, Table, whole
from lca.analysis.iterations import Iterations, iterations
from lca.analysis.tiles import tiles
from lca.errors import LCAError, UsageError
from lca.store.allocation import Allocation
from lca.store.run import Run
from lca.store.summary import read

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """An allocation over a subset against the one over all, in the iterations that count in both.

    examples: in the subset. correlation: Pearson's, of A over all parameters and iterations. of_parameters: that of the
    parameters' totals over time. same_sign: the part of those with A ≠ 0 over all whose sign is the same.
    layer_error: Σ|subset − all| / Σ|all| of the layers' totals. helping_error: of the percentage helping, in points.
    """

    examples: int
    correlation: float
    of_parameters: float
    same_sign: float
    layer_error: float
    helping_error: float


@dataclass(frozen=True)
class Subset:
    """agreements: by the name of the allocation, the smallest subset first. n_examples: of the one over all."""

    agreements: dict[str, Agreement]
    n_examples: int
    iterations: Iterations


@dataclass
class Correlation:
    """Pearson's, of pairs that come by in parts."""

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


def subset(run: Run, name: str = "train", against: Sequence[str] = (), unconverged: bool = False) -> Subset:
    """Compare with allocations over subsets; against: their names, or all there are of the same split."""
    whole_split = run.allocation(name)
    parts = [run.allocation(other) for other in against or subsets_of(run, name)]
    if not parts:
        raise LCAError(
            f"{run.path} has no allocation over a part of the examples of {name!r}. Make one with "
            f"`lca allocate {run.path} --split {whole_split.attributes['split']} --examples 1000 "
            f"--name subset-1000{run.again}`."
        )
    for part in parts:
        if part.attributes["split"] != whole_split.attributes["split"]:
            raise UsageError(
                f"{part.name} is over the {part.attributes['split']} split and {name} over the "
                f"{whole_split.attributes['split']} split; two allocations over the same one were wanted."
            )
    chosen = iterations(whole_split, unconverged)
    for part in parts:
        chosen &= iterations(part, unconverged)
    parts.sort(key=lambda part: int(part.attributes["examples"]))
    return Subset(
        {part.name: _agreement(whole_split, part, chosen) for part in parts},
        int(whole_split.attributes["examples"]),
        chosen,
    )


def subsets_of(run: Run, name: str) -> list[str]:
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


def _agreement(reference: Allocation, part: Allocation, chosen: Iterations) -> Agreement:
    run = reference.run
    parts, totals = Correlation(), Correlation()
    same = moved = 0
    strips: dict[int, Floats] = {}  # by strip: (2, rows), the totals of its parameters so far
    signs = [SignCounts(run.parameters, chosen) for _ in range(2)]
    pairs = zip(*(tiles(run, each.lca, chosen.counted) for each in (reference, part)), strict=True)
    for both in pairs:
        a, b = (tile.counted_values for tile in both)
        parts.add(a, b)
        of_all, of_part = both
        same += _n_bits(of_all.helped_words & of_part.helped_words) + _n_bits(of_all.hurt_words & of_part.hurt_words)
        moved += _n_bits(of_all.helped_words | of_all.hurt_words)
        sums = np.stack([x.sum(axis=1, dtype=np.float64) for x in (a, b)])
        sums += 0 if of_all.first else strips[of_all.rows.start]
        strips[of_all.rows.start] = sums
        if of_all.last:
            totals.add(*strips.pop(of_all.rows.start))
        for counts, tile in zip(signs, both, strict=True):
            counts.add(tile)
    counted = chosen.counted[:, None]
    of_layers = [
        run.parameters.sum_by_layer(np.where(counted, read(allocation, "tensor_lca"), 0)).sum(axis=0)
        for allocation in (reference, part)
    ]
    size = np.abs(of_layers[0]).sum()
    percentages = [counts.result(reference).percentage for counts in signs]
    return Agreement(
        examples=int(part.attributes["examples"]),
        correlation=parts.value,
        of_parameters=totals.value,
        same_sign=same / moved if moved else float("nan"),
        layer_error=float(np.abs(of_layers[1] - of_layers[0]).sum() / size) if size else float("nan"),
        helping_error=percentages[1] - percentages[0],
    )


def report(results: Sequence[Subset]) -> Report:
    """A row for each subset that all runs have."""
    first = results[0]
    names = [name for name in first.agreements if all(name in result.agreements for result in results)]
    if not names:
        raise LCAError("the runs have no allocation over a subset in common.")

    def column(figure: str, scale: float = 100, digits: int = 2) -> Column:
        values = [[scale * getattr(result.agreements[name], figure) for name in names] for result in results]
        return Column(np.array(values), digits)

    table = Table(
        "subset",
        names,
        {
            "examples": Column.of([first.agreements[name].examples for name in names], text=whole),
            "correlation": column("correlation", 1, 4),
            "of parameters' totals": column("of_parameters", 1, 4),
            "same sign %": column("same_sign"),
            "layers off %": column("layer_error"),
            "helping off (points)": column("helping_error", 1),
        },
    )
    note = f"against all {first.n_examples:,} examples"
    return Report("subset", [table], [result.iterations for result in results], [note])


def _n_bits(words: NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(words).sum(dtype=np.int64))
