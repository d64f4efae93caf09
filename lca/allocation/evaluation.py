"""The loss and the accuracy of a model at given parameters, for questions that need the model again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lca.allocation.full_gradient import FullGradient
from lca.model.parameters import build_table
from lca.problem.objective import Objective, prepare
from lca.problem.problem import Problem, require_problem
from lca.problem.provenance import require_same_data, require_same_fixed
from lca.runtime.device import resolve_device
from lca.store.run import Run


class Evaluator:
    """Evaluates a problem at parameters from its runs.

        evaluate = lca.Evaluator(problem)
        lca.analysis.prune("run.zarr", evaluate)

    Args:
        problem: The problem that the runs were trained on; its model is used and left as it was.
        splits: The splits to evaluate; those that the problem lacks are left out.
        device: Where to evaluate; auto is CUDA if there is one, else the CPU.
    """

    def __init__(self, problem: Problem, splits: Sequence[str] = ("train", "val"), device: str = "auto") -> None:
        require_problem(problem)
        self.problem, self.device = problem, resolve_device(device)
        self.splits = tuple(split for split in splits if split in problem.splits)
        self._objectives: dict[str, Objective] = {}
        self._checked: set[str] = set()

    def __call__(self, run: Run, thetas: Iterable[NDArray[np.floating]], split: str, name: str) -> "list[Measurement]":
        """Measure loss and accuracy over a split at each of the parameters (K,).

        name: of the run's allocation, whose batch size is used: with BatchNorm it is a part of what the loss is.
        Raises LCAError if the problem is not the one of the run.
        """
        self._require_same(run)
        if split not in self._objectives:
            self.problem.model.to(self.device)
            self._objectives[split] = prepare(self.problem, split, self.device)
        correct = self.problem.correct
        with FullGradient(self._objectives[split], int(run.allocation(name).attributes["batch_size"])) as full:

            def measure(theta: NDArray[np.floating]) -> Measurement:
                at = torch.from_numpy(theta).to(self.device)
                accuracy = full.compute_mean(at, correct).item() if correct else float("nan")
                return Measurement(full.compute_mean(at).item(), accuracy)

            return [measure(theta) for theta in thetas]

    def _require_same(self, run: Run) -> None:
        if str(run.path) in self._checked:
            return
        run.parameters.require_same(build_table(self.problem.model), str(run.path), f"the model of {self.problem.name}")
        require_same_fixed(run, self.problem.model)
        for split in self.splits:
            require_same_data(run, self.problem, split)
        self._checked.add(str(run.path))


@dataclass(frozen=True)
class Measurement:
    """loss: over the split, in the loss's unit. accuracy: from 0 to 1; NaN if the problem does not define it."""

    loss: float
    accuracy: float
