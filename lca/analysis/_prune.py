"""Is LCA a measure of a weight's importance?     [left open by arXiv 1909.01440, section 6.2]

The weights of the last iterate are set to 0 but for a part, chosen by LCA, by magnitude or at random, and the loss and
the accuracy of what is left are measured, without training any further.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lca.allocation.full_gradient import FullGradient
from lca.analysis._curves import ParameterTotals
from lca.analysis.answer import Column, Report, Table
from lca.analysis.iterations import Iterations, iterations
from lca.analysis.tiles import feed
from lca.errors import UsageError
from lca.problem.objective import prepare
from lca.problem.problem import Problem
from lca.problem.provenance import require_same_data, require_same_fixed
from lca.runtime.device import resolve_device
from lca.store.parameters import ParameterTable
from lca.store.run import Run

PRUNED = (0.5, 0.8, 0.9, 0.95, 0.98)
CRITERIA = ("LCA", "magnitude", "random")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pruned:
    """pruned: (p,), the parts of the kernels' weights that are set to 0, 0 first; biases and norms stay.

    loss, accuracy: by split, (criterion, p), in the loss's unit and as a part of 1; criteria: their names. Accuracies
    are NaN where the problem does not say which examples are right.
    """

    pruned: Floats
    criteria: list[str]
    loss: dict[str, Floats]
    accuracy: dict[str, Floats]
    iterations: Iterations


def prune(
    run: Run,
    problem: Problem,
    name: str = "train",
    unconverged: bool = False,
    *,
    pruned: Sequence[float] = PRUNED,
    splits: Sequence[str] = ("train", "val"),
    seed: int = 0,
    device: str = "auto",
) -> Pruned:
    """Prune the last iterate by the most negative total LCA, by magnitude and at random (seed), and measure.

    problem: the one that the run was trained on. splits: those of them that it has are measured.
    """
    if not all(0 < part < 1 for part in pruned):
        raise UsageError(f"pruned is {', '.join(f'{part:g}' for part in pruned)}; parts between 0 and 1 were wanted.")
    run.parameters.require_same(ParameterTable.of(problem.model), str(run.path), f"the model of {problem.name}")
    allocation = run.allocation(name)
    chosen = iterations(allocation, unconverged)
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
    require_same_fixed(run, problem.model)
    loss, accuracy = {}, {}
    for split in (split for split in splits if split in problem.splits):
        require_same_data(run, problem, split)
        with _measuring(problem, split, device, int(allocation.attributes["batch_size"])) as measure:
            figures = np.array(
                [[measure(without(theta, kernels, importance[c], part)) for part in parts] for c in CRITERIA]
            )
        loss[split], accuracy[split] = figures[..., 0], figures[..., 1]
    return Pruned(np.array(parts), list(CRITERIA), loss, accuracy, chosen)


def without(
    theta: NDArray[np.float32], candidates: NDArray[np.int64], importance: Floats, part: float
) -> NDArray[np.float32]:
    """theta (K,) with the least important part of the candidates set to 0."""
    n = round(part * len(candidates))
    least = candidates[np.argsort(importance[candidates], kind="stable")[:n]]
    pruned = theta.copy()
    pruned[least] = 0
    return pruned


@contextmanager
def _measuring(
    problem: Problem, split: str, device: str, batch_size: int
) -> Iterator[Callable[[NDArray[np.float32]], tuple[float, float]]]:
    """theta (K,) -> the loss over the split and the part of its examples that are right."""
    where = resolve_device(device)
    problem.model.to(where)
    ready = prepare(problem, split, where)

    with FullGradient(
        problem.model, problem.losses, ready.data, batch_size, scale=ready.scale, weigh=ready.weigh
    ) as full:

        def measure(theta: NDArray[np.float32]) -> tuple[float, float]:
            at = torch.from_numpy(theta).to(where)
            loss = full.mean(at).item()
            right = full.mean(at, problem.correct).item() if problem.correct else float("nan")
            return loss, right

        yield measure


def report(results: Sequence[Pruned]) -> Report:
    """The loss and the accuracy of what is left, by split and by criterion, over runs."""
    first = results[0]
    rows = ["nothing", *(f"{100 * part:g} %" for part in first.pruned[1:])]

    def table(split: str) -> Table:
        columns = {}
        for i, criterion in enumerate(first.criteria):
            columns[f"loss, {criterion}"] = Column(np.array([result.loss[split][i] for result in results]), 3)
        for i, criterion in enumerate(first.criteria):
            accuracy = np.array([100 * result.accuracy[split][i] for result in results])
            if np.isfinite(accuracy).all():
                columns[f"right %, {criterion}"] = Column(accuracy, 1)
        return Table("set to 0", rows, columns, f"{split} loss (nats) and accuracy")

    notes = ["of the kernels' weights, over all layers together; biases and norms stay; not trained any further"]
    return Report("prune", [table(split) for split in first.loss], [result.iterations for result in results], notes)
