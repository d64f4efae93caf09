"""Evaluation of loss and accuracy at given parameters, for analyses that need the model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lca.allocation.full_gradient import FullGradient
from lca.model.parameters import build_table
from lca.problem.objective import Objective, prepare, require_supported
from lca.problem.problem import Problem, require_problem
from lca.problem.provenance import require_same_data, require_same_frozen
from lca.problem.reference import ReferenceLosses, require_same_loss
from lca.runtime.device import resolve_device
from lca.store.run import Run


class Evaluator:
    """Computes the loss and the accuracy of a problem's model at given parameters.

    Args:
        problem: Problem that the runs were trained on. Its model is moved to the device but otherwise left unchanged.
        splits: Splits to evaluate. Splits that the problem does not have are skipped.
        device: Device to compute on. The value ``"auto"`` selects the accelerator if there is one, and the CPU
            otherwise.

    Example:
        >>> evaluate = lca.Evaluator(problem)
        >>> lca.analysis.prune("run.zarr", evaluate)
    """

    def __init__(self, problem: Problem, splits: Sequence[str] = ("train", "val"), device: str = "auto") -> None:
        require_problem(problem)
        self.problem, self.device = problem, resolve_device(device)
        self.splits = tuple(split for split in splits if split in problem.splits)
        self._objectives: dict[str, Objective] = {}
        self._checked: set[tuple[str, str]] = set()

    def __call__(self, run: Run, thetas: Iterable[NDArray[np.floating]], split: str, name: str) -> "list[Measurement]":
        """Measure loss and accuracy over a split at each of several parameter vectors.

        Args:
            run: Run that the parameter vectors belong to.
            thetas: Parameter vectors, each of shape (K,).
            split: Split to evaluate.
            name: Name of an allocation of the run. Its batch size is used, because the loss may depend on it, as with
                BatchNorm.

        Returns:
            One measurement per parameter vector.

        Raises:
            LCAError: If the problem does not match the run.
        """
        self._require_same(run, name)
        if split not in self._objectives:
            require_supported(self.problem, split, self.device)
            self.problem.model.to(self.device)
            self._objectives[split] = prepare(self.problem, split, self.device)
        correct = self.problem.correct
        with FullGradient(self._objectives[split], int(run.allocation(name).attributes["batch_size"])) as full:

            def measure(theta: NDArray[np.floating]) -> Measurement:
                at = torch.from_numpy(theta).to(self.device)
                accuracy = full.compute_mean(at, correct).item() if correct else float("nan")
                return Measurement(full.compute_mean(at).item(), accuracy)

            return [measure(theta) for theta in thetas]

    def _require_same(self, run: Run, name: str) -> None:
        if (str(run.path), name) in self._checked:
            return
        run.parameters.require_same(build_table(self.problem.model), str(run.path), f"the model of {self.problem.name}")
        require_same_frozen(run, self.problem.model)
        for split in self.splits:
            require_same_data(run, self.problem, split)
        losses = ReferenceLosses.compute(run, self.problem)
        require_same_loss(run, self.problem, losses, run.allocation(name).attributes["other_loss"])
        self._checked.add((str(run.path), name))


@dataclass(frozen=True)
class Measurement:
    """The loss and the accuracy of a model over a split.

    Attributes:
        loss: Mean loss.
        accuracy: Fraction of correct predictions, or NaN if the problem does not define `correct`.
    """

    loss: float
    accuracy: float
