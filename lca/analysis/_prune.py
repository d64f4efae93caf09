"""Is LCA a measure of a weight's importance?     [left open by arXiv 1909.01440, section 6.2]

The weights of the last iterate are set to 0 except for a part, chosen by LCA, by magnitude or at random. The loss and
the accuracy of what is left are measured, without further training.
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

PRUNED = (0.5, 0.8, 0.9, 0.95, 0.98)
CRITERIA = ("LCA", "magnitude", "random")

Floats = NDArray[np.float64]


class Measured(Protocol):
    """loss: in its unit. accuracy: from 0 to 1; NaN where the problem does not define it."""

    @property
    def loss(self) -> float: ...
    @property
    def accuracy(self) -> float: ...


class Evaluate(Protocol):
    """Evaluates the model of a run at parameters θ (K,), over all examples of a split; lca.Evaluator is one.

    splits: those that can be evaluated. name: of the allocation, whose batches are used.
    """

    @property
    def splits(self) -> tuple[str, ...]: ...
    def __call__(self, run: Run, thetas: Iterable[NDArray[Any]], split: str, name: str, /) -> Sequence[Measured]: ...


@dataclass(frozen=True, repr=False)
class Pruned(Result):
    """The loss and the accuracy of what is left.

    pruned: (p,), the parts of the kernels' weights that are set to 0, the first of which is 0; biases and norms stay.
    criteria: their names. loss, accuracy: by split, (criterion, p), in the loss's unit and from 0 to 1; accuracies are
    NaN where the problem does not define them.
    """

    pruned: Floats
    criteria: list[str]
    loss: dict[str, Floats]
    accuracy: dict[str, Floats]
    iterations: Iterations

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The loss and the accuracy of what is left, by split and by criterion, over runs."""
        notes = ["of the kernels' weights, over all layers together; biases and norms stay; without further training"]
        tables = [_tabulate_split(results, split) for split in results[0].loss]
        return Answer("prune", tables, [result.iterations for result in results], notes)


@question
def prune(
    run: Run,
    evaluate: Evaluate,
    *,
    name: str = "train",
    unconverged: bool = False,
    pruned: Sequence[float] = PRUNED,
    seed: int = 0,
) -> Pruned:
    """Is LCA a measure of a weight's importance?     [left open by arXiv 1909.01440, section 6.2]

    Sets weights of the last iterate to 0: those of the least negative total LCA, of the smallest magnitude, or drawn at
    random; and measures what is left.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        evaluate: Measures loss and accuracy at given parameters, such as lca.Evaluator(problem).
        name: The allocation to ask about; it must hold the LCA of each parameter.
        unconverged: Whether iterations that did not converge count too.
        pruned: The parts of the kernels' weights to set to 0, each between 0 and 1.
        seed: The seed of the random choice.

    Returns:
        The loss, in its unit (nats for cross-entropy), and the accuracy by split, criterion and part.

    Raises:
        LCAError: If the run has no such allocation, no iteration of it counts, or the model is another one.
        UsageError: If a part is not between 0 and 1.

    Example:
        >>> lca.analysis.prune("run.zarr", lca.Evaluator(problem), pruned=(0.5, 0.9))
    """
    if not all(0 < part < 1 for part in pruned):
        found = ", ".join(f"{part:g}" for part in pruned)
        raise UsageError("pruned", expected="parts between 0 and 1", found=found)
    allocation = run.allocation(name)
    chosen = choose_iterations(allocation, unconverged)
    totals = ParameterTotals(run.parameters)
    feed(run, allocation.lca, chosen.counted, [totals])
    theta = np.asarray(run.weights[:, run.n_iterations])
    kernels = np.concatenate([np.arange(p.offset, p.offset + p.size) for p in run.parameters if p.kind == "kernel"])
    importance = {
        "LCA": -totals.totals,
        "magnitude": np.abs(theta),
        "random": np.random.default_rng(seed).random(len(theta)),
    }
    parts = [0.0, *pruned]
    loss, accuracy = {}, {}
    for split in evaluate.splits:
        # One at a time, because many copies of θ may not fit into memory.
        thetas = (set_least_to_zero(theta, kernels, importance[c], part) for c in CRITERIA for part in parts)
        measured = evaluate(run, thetas, split, name)
        shape = len(CRITERIA), len(parts)
        loss[split] = np.array([each.loss for each in measured]).reshape(shape)
        accuracy[split] = np.array([each.accuracy for each in measured]).reshape(shape)
    return Pruned(np.array(parts), list(CRITERIA), loss, accuracy, chosen)


def set_least_to_zero(
    theta: NDArray[np.floating], candidates: NDArray[np.int64], importance: Floats, part: float
) -> NDArray[np.floating]:
    """theta (K,) with the least important part of the candidates set to 0; importance: (K,)."""
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
    rows = ["nothing", *(f"{100 * part:g} %" for part in first.pruned[1:])]
    return Table("set to 0", rows, columns, f"{split} loss (nats) and accuracy")
