"""The finished runs of the experiments, and the answers of lca to what is asked of them, each worked out once."""

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
    """No run of an experiment has what is asked for."""


class Archive:
    """works: the runs of each experiment. What is read of them is noted in `used`, as (work, name of an allocation)."""

    def __init__(self, works: Mapping[str, list[Work]], data_dir: Path | None) -> None:
        self._works, self._data_dir = works, data_dir
        self._answers: dict[tuple[object, ...], Any] = {}
        self._finished: dict[Path, list[str]] = {}
        self.used: list[tuple[Work, str]] = []

    def runs(self, experiment: str, *names: str, at_most: int | None = None) -> list[Run]:
        """Those that have finished allocations of all these names, of `train` if none is given."""
        names = names or ("train",)
        works = [work for work in self._works[experiment] if set(names) <= set(self._of(work))][:at_most]
        if not works:
            raise NotMade(f"no run of {experiment} has a finished allocation {', '.join(names)}")
        self.used += [(work, name) for work in works for name in names]
        return [lca.open(work.path) for work in works]

    def first(self, experiment: str, *names: str) -> Run:
        """The first of them."""
        return self.runs(experiment, *names, at_most=1)[0]

    def _of(self, work: Work) -> list[str]:
        """The finished allocations of a run; none, if it was made by another table."""
        if work.path not in self._finished:
            try:
                missing = work.missing
            except LCAError:
                missing = list(work.allocations)
            self._finished[work.path] = [name for name in work.allocations if name not in missing]
        return self._finished[work.path]

    def has(self, experiment: str) -> bool:
        return any("train" in self._of(work) for work in self._works[experiment])

    def problem(self, experiment: str) -> lca.Problem:
        return self._works[experiment][0].load(self._data_dir)

    def ask(self, question: Callable[..., T], experiment: str, *names: str, **options: Any) -> list[T]:
        """The answer of each run that has allocations of these names, of the first of them."""
        names = names or ("train",)
        return [self._answer(question, run, names[0], options) for run in self.runs(experiment, *names)]

    def _answer(self, question: Callable[..., T], run: Run, name: str, options: Mapping[str, Any]) -> T:
        key = (question, str(run.path), name, *options.items())
        if key not in self._answers:
            self._answers[key] = question(run, name=name, **options)
        answer: T = self._answers[key]
        return answer

    def over_most(self, experiment: str) -> str:
        """The allocation over as many examples as a scale has, where that is not `train`."""
        return "whole" if "whole" in self._works[experiment][0].allocations else "train"

    def over_time(self, experiment: str) -> str:
        """The allocation of most iterations that keeps the LCA of each parameter."""
        keep = self._works[experiment][0].allocations["train"].get("keep", "lca")
        return "train" if keep == "lca" else self.over_most(experiment)

    def subsets(self, experiment: str) -> list[str]:
        """The allocations of the first run over parts of the examples."""
        return [name for name in self._works[experiment][0].allocations if name.startswith("subset-")]

    def helping(self, experiment: str) -> list[Helping]:
        return self.ask(helping, experiment, self.over_most(experiment))

    def layers(self, experiment: str) -> list[Layers]:
        return self.ask(layers, experiment)

    def totals(self, experiment: str) -> Floats:
        """(run, layer), LCA of each layer, summed over the iterations that are allocated."""
        return np.array([result.total for result in self.layers(experiment)])

    def layer_names(self, experiment: str) -> Sequence[str]:
        return self.layers(experiment)[0].layers

    def last_loss(self, experiment: str, name: str) -> Floats:
        """(run,), the loss at the last iterate, over the examples of an allocation."""
        return np.array([float(np.asarray(run.allocation(name).loss[-1])) for run in self.runs(experiment, name)])
