"""The finished runs of the experiments, and cached results of their analysis."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import lca
from lca.analysis import Helping, Layers, helping, layers
from lca.errors import LCAError
from lca.store.run import Run
from paper.making import Work

T = TypeVar("T")
Floats = NDArray[np.float64]


class NotMade(LCAError):
    """No run of an experiment has the requested allocations, so a finding cannot be measured."""


class Archive:
    """Access to the finished runs of each experiment.

    Every allocation that is read is appended to `used`, as (work, name of the allocation), so that the page can state
    what a number is based on.
    """

    def __init__(self, works: Mapping[str, list[Work]], data_dir: Path | None) -> None:
        self._works, self._data_dir = works, data_dir
        self._answers: dict[tuple[object, ...], Any] = {}
        self._finished: dict[Path, list[str]] = {}
        self.used: list[tuple[Work, str]] = []

    def runs(self, experiment: str, *names: str, at_most: int | None = None) -> list[Run]:
        """Open the runs whose allocations of these names, by default `train`, are all finished."""
        names = names or ("train",)
        works = [work for work in self._works[experiment] if set(names) <= set(self._find_finished(work))][:at_most]
        if not works:
            raise NotMade(f"no run of {experiment} has a finished allocation {', '.join(names)}")
        self.used += [(work, name) for work in works for name in names]
        return [lca.open(work.path) for work in works]

    def first(self, experiment: str, *names: str) -> Run:
        """Open the first run whose allocations of these names are all finished."""
        return self.runs(experiment, *names, at_most=1)[0]

    def _find_finished(self, work: Work) -> list[str]:
        """Return the finished allocations of a run, or none if it was made with different options."""
        if work.path not in self._finished:
            try:
                missing = work.missing
            except LCAError:
                missing = list(work.allocations)
            self._finished[work.path] = [name for name in work.allocations if name not in missing]
        return self._finished[work.path]

    def has(self, experiment: str) -> bool:
        return any("train" in self._find_finished(work) for work in self._works[experiment])

    def problem(self, experiment: str) -> lca.Problem:
        return self._works[experiment][0].load(self._data_dir)

    def ask(self, question: Callable[..., T], experiment: str, *names: str, **options: Any) -> list[T]:
        """Return the results of an analysis of the first of these allocations, one per run that has all of them."""
        names = names or ("train",)
        return [self._answer(question, run, names[0], options) for run in self.runs(experiment, *names)]

    def _answer(self, question: Callable[..., T], run: Run, name: str, options: Mapping[str, Any]) -> T:
        key = (question, str(run.path), name, *options.items())
        if key not in self._answers:
            self._answers[key] = question(run, name=name, **options)
        answer: T = self._answers[key]
        return answer

    def over_most(self, experiment: str) -> str:
        """Return the name of the allocation over the most examples: `whole` if there is one, else `train`."""
        return "whole" if "whole" in self._works[experiment][0].allocations else "train"

    def over_time(self, experiment: str) -> str:
        """Return the name of the allocation over the most iterations that keeps the LCA of each parameter."""
        keep = self._works[experiment][0].allocations["train"].get("keep", "lca")
        return "train" if keep == "lca" else self.over_most(experiment)

    def subsets(self, experiment: str) -> list[str]:
        """Return the names of the allocations over subsets of the examples, which only the first run has."""
        return [name for name in self._works[experiment][0].allocations if name.startswith("subset-")]

    def helping(self, experiment: str) -> list[Helping]:
        return self.ask(helping, experiment, self.over_most(experiment))

    def layers(self, experiment: str) -> list[Layers]:
        return self.ask(layers, experiment)

    def totals(self, experiment: str) -> Floats:
        """Return the total LCA of each layer, shape (run, layer)."""
        return np.array([result.total for result in self.layers(experiment)])

    def layer_names(self, experiment: str) -> Sequence[str]:
        return self.layers(experiment)[0].layers

    def last_loss(self, experiment: str, name: str) -> Floats:
        """Return the loss at the last iterate over the examples of an allocation, shape (run,)."""
        return np.array([float(np.asarray(run.allocation(name).loss[-1])) for run in self.runs(experiment, name)])
