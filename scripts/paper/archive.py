"""The finished runs of the experiments, and the answers of lca to what is asked of them, each worked out once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from paper.making import Work, load

import lca
from lca.analysis import helping, layers
from lca.analysis.helping import Helping
from lca.analysis.layers import Layers
from lca.errors import LCAError
from lca.store import Run

T = TypeVar("T")
Floats = NDArray[np.float64]


class NotMade(LCAError):
    """There is no run of an experiment that has been asked for, or it lacks what the question takes."""


class Archive:
    """works: the runs of each experiment. What has been read of them is noted in `used`, as (run, allocation)."""

    def __init__(self, works: Mapping[str, list[Work]], data_dir: Path | None) -> None:
        self._works, self._data_dir = works, data_dir
        self._answers: dict[tuple[object, ...], Any] = {}
        self.used: list[tuple[Run, str]] = []

    def runs(self, experiment: str, name: str = "train") -> list[Run]:
        """Those that are trained, with a finished allocation of this name."""
        trained = [lca.open(work.path) for work in self._works[experiment] if work.trained]
        found = [run for run in trained if name in run.allocations and run.allocation(name).complete]
        if not found:
            raise NotMade(f"{experiment} has no run with a finished allocation {name!r}")
        self.used += [(run, name) for run in found]
        return found

    def problem(self, experiment: str) -> lca.Problem:
        return load(self._works[experiment][0], self._data_dir)

    def ask(self, question: Callable[..., T], experiment: str, name: str = "train", **options: Any) -> list[T]:
        """The answer of each run."""
        answers = []
        for run in self.runs(experiment, name):
            key = (question, str(run.path), name, *options.items())
            if key not in self._answers:
                self._answers[key] = question(run, name, **options)
            answers.append(self._answers[key])
        return answers

    def helping(self, experiment: str) -> list[Helping]:
        """By the allocation over more examples where there is one."""
        return self.ask(helping, experiment, self.over_most(experiment))

    def over_most(self, experiment: str) -> str:
        return "whole" if "whole" in self._works[experiment][0].allocations else "train"

    def layers(self, experiment: str) -> list[Layers]:
        return self.ask(layers, experiment)

    def totals(self, experiment: str) -> Floats:
        """(run, layer), LCA of each layer, summed over the iterations that are allocated."""
        return np.array([result.total for result in self.layers(experiment)])

    def layer_names(self, experiment: str) -> list[str]:
        return self.runs(experiment)[0].parameters.layers

    def last_loss(self, experiment: str, name: str) -> Floats:
        """(run,), the loss at the last iterate, over the examples of an allocation."""
        return np.array([float(np.asarray(run.allocation(name).loss[-1])) for run in self.runs(experiment, name)])
