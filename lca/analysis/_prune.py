"""Is LCA a measure of a weight's importance?     [left open by arXiv 1909.01440, section 6.2]

A fraction of the weights of the last iterate is set to 0, chosen by LCA, by magnitude or at random. The loss and the
accuracy of the pruned model are measured without further training.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from lca.analysis._curves import ParameterTotals
from lca.analysis.answer import Answer, Column, Table
from lca.analysis.iterations import Iterations, choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import feed
from lca.errors import UsageError
from lca.store.run import Run

PRUNED = (0.5, 0.8, 0.9, 0.95, 0.98)  # default fractions of the kernel weights to set to 0
CRITERIA = ("LCA", "magnitude", "random")

Floats = NDArray[np.float64]


class Measured(Protocol):
    """The loss and accuracy of a model on a split.

    Attributes:
        loss: Mean loss over the examples of the split.
        accuracy: Fraction of correctly classified examples. NaN if the problem does not define accuracy.
    """

    @property
    def loss(self) -> float: ...
    @property
    def accuracy(self) -> float: ...


class Evaluate(Protocol):
    """A callable that evaluates the model of a run at given parameters, such as ``lca.Evaluator``.

    Its arguments are the run, parameter vectors θ of shape (K,), the split to evaluate on, and the name of the
    allocation whose batch size is used. It returns one measurement per parameter vector.

    Attributes:
        splits: Names of the splits that can be evaluated.
    """

    @property
    def splits(self) -> tuple[str, ...]: ...
    def __call__(self, run: Run, thetas: Iterable[NDArray[Any]], split: str, name: str, /) -> Sequence[Measured]: ...


@dataclass(frozen=True, repr=False)
class Pruned(Result):
    """The loss and accuracy of pruned models.

    Attributes:
        pruned: Fractions of the kernel weights that are set to 0, beginning with 0, shape (fractions,).
        criteria: Names of the pruning criteria.
        loss: Loss of the pruned models by split, in arrays of shape (criteria, fractions).
        accuracy: Accuracy of the pruned models, from 0 to 1, by split, in arrays of shape (criteria, fractions). NaN if
            the problem does not define accuracy.
        iterations: The iterations over which the LCA of each weight was summed.
    """

    pruned: Floats
    criteria: list[str]
    loss: dict[str, Floats]
    accuracy: dict[str, Floats]
    iterations: Iterations

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show loss and accuracy by pruned fraction and criterion, in one table per split."""
        notes = [
            "Pruning sets a fraction of all kernel weights to 0: the weights with the highest total LCA, with the "
            "smallest magnitude, or a random choice.",
            "Biases and norms are not pruned, and the pruned model is not trained further.",
        ]
        tables = [_tabulate_split(results, split) for split in results[0].loss]
        return Answer("prune", tables, [result.iterations for result in results], notes)


@question
def prune(
    run: Run,
    evaluate: Evaluate,
    *,
    name: str = "train",
    pruned: Sequence[float] = PRUNED,
    seed: int = 0,
) -> Pruned:
    """Prune weights by LCA, by magnitude and at random, and measure the loss and accuracy of the pruned models.

    Pruning sets kernel weights of the last iterate to 0: those with the highest total LCA, those with the smallest
    magnitude, or a random choice. Biases and norms are kept, and the pruned models are not trained further.

    arXiv 1909.01440, section 6.2, leaves open whether LCA measures the importance of a weight.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        evaluate: Callable that measures loss and accuracy at given parameters, such as ``lca.Evaluator(problem)``.
        name: Name of the allocation. It must contain the LCA of each parameter.
        pruned: Fractions of the kernel weights to set to 0, each between 0 and 1.
        seed: Random seed for random pruning.

    Returns:
        The loss (in nats for cross-entropy) and the accuracy by split, criterion and fraction.

    Raises:
        LCAError: If the run has no such allocation, the allocation lacks the LCA of each parameter or has no usable
            iteration, or the model differs from the one in the run.
        UsageError: If a fraction is not between 0 and 1.

    Example:
        >>> lca.analysis.prune("run.zarr", lca.Evaluator(problem), pruned=(0.5, 0.9))
    """
    if not all(0 < part < 1 for part in pruned):
        found = ", ".join(f"{part:g}" for part in pruned)
        raise UsageError("pruned", expected="fractions between 0 and 1", found=found)
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation)
    totals = ParameterTotals(run.parameters)
    feed(run, allocation.lca, chosen.mask, [totals])
    theta = run.iterate(run.n_iterations)
    kernels = np.concatenate([np.arange(p.offset, p.offset + p.size) for p in run.parameters if p.kind == "kernel"])
    importance = {
        "LCA": -totals.totals,
        "magnitude": np.abs(theta),
        "random": np.random.default_rng(seed).random(len(theta)),
    }
    parts = [0.0, *pruned]
    loss, accuracy = {}, {}
    for split in evaluate.splits:
        # A generator, because all pruned copies of θ together may not fit into memory.
        thetas = (set_least_to_zero(theta, kernels, importance[c], part) for c in CRITERIA for part in parts)
        measured = evaluate(run, thetas, split, name)
        shape = len(CRITERIA), len(parts)
        loss[split] = np.array([each.loss for each in measured]).reshape(shape)
        accuracy[split] = np.array([each.accuracy for each in measured]).reshape(shape)
    return Pruned(np.array(parts), list(CRITERIA), loss, accuracy, chosen)


def set_least_to_zero(
    theta: NDArray[np.floating], candidates: NDArray[np.int64], importance: Floats, part: float
) -> NDArray[np.floating]:
    """Return a copy of θ in which the least important fraction `part` of the candidates is set to 0.

    `theta` and `importance` have shape (K,), and `candidates` contains indices into them.
    """
    n = round(part * len(candidates))
    least = candidates[np.argsort(importance[candidates], kind="stable")[:n]]
    pruned = theta.copy()
    pruned[least] = 0
    return pruned


def _tabulate_split(results: Sequence[Pruned], split: str) -> Table:
    first = results[0]
    columns = {}
    for i, criterion in enumerate(first.criteria):
        columns[f"loss, {criterion}"] = Column(np.array([result.loss[split][i] for result in results]), 3)
    for i, criterion in enumerate(first.criteria):
        accuracy = np.array([100 * result.accuracy[split][i] for result in results])
        if np.isfinite(accuracy).all():
            columns[f"accuracy %, {criterion}"] = Column(accuracy, 1)
    rows = ["none", *(f"{100 * part:g} %" for part in first.pruned[1:])]
    return Table(
        "pruned weights", rows, columns, f"{split} loss ({first.unit}) and accuracy of the pruned model, by criterion"
    )
