"""Plan the runs of a scale, find their missing parts, and make them with the public interface of lca."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lca
from lca.errors import LCAError
from lca.problem.zoo.presets import PRESETS, recipe
from lca.runtime.workers import Workers
from lca.store.allocation import Allocation
from lca.store.run import Run
from paper.experiments import EXPERIMENTS, Experiment, Options, Size

PROBED = ("name", "device", "batch_size", "channels_last")  # options that may differ, because lca chooses them


@dataclass(frozen=True)
class Work:
    """One run of an experiment.

    problem, options: Problem to train and its options.
    whole: Number of training iterations in the paper.
    allocations: Name of each allocation and its fields of AllocateConfig, in the order in which they are made. Here,
        `iterations` may also be "last", which selects the last iteration.
    """

    experiment: str
    path: Path
    problem: str
    options: Options
    training: lca.TrainConfig
    whole: int
    allocations: Mapping[str, Options]

    @property
    def is_trained(self) -> bool:
        return self.path.exists() and lca.open(self.path).status == "complete"

    @property
    def missing(self) -> list[str]:
        """The names of the unfinished allocations. Raises LCAError if the run was made with different options."""
        if not self.is_trained:
            return list(self.allocations)
        run = lca.open(self.path)
        _require_same(self.path, _describe_run(run), self._expect())
        existing = {name: run.allocation(name) for name in self.allocations if name in run.allocations}
        for name, allocation in existing.items():
            _require_same(
                f"{self.path}, allocation {name}",
                _describe_allocation(allocation),
                _expect_allocation(self.config(name), allocation),
            )
        return [name for name in self.allocations if not (name in existing and existing[name].complete)]

    def config(self, name: str) -> lca.AllocateConfig:
        options = dict(self.allocations[name])
        if options.get("iterations") == "last":
            options["iterations"] = f"{self.n_iterations - 1}:{self.n_iterations}"
        return lca.AllocateConfig(name=name, **options)

    @property
    def n_iterations(self) -> int:
        assert self.training.iterations is not None
        return self.training.iterations

    def load(self, data_dir: Path | None) -> lca.Problem:
        return lca.load(self.problem, options=self.options, data_dir=data_dir, seed=self.training.seed)

    def _expect(self) -> dict[str, Any]:
        preset = PRESETS.get(self.problem)
        training = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self.training).items()}
        for chosen in ("device", "epochs"):
            del training[chosen]
        options = preset.resolve(self.options) if preset else dict(self.options)
        return {"problem": Path(self.problem).name, "problem_options": options, **training}


def plan(
    sizes: Mapping[str, Size], folder: Path, is_chosen: Callable[[str], bool], at_most: int | None = None
) -> dict[str, list[Work]]:
    """Return the runs of each chosen experiment, at most `at_most` per experiment."""
    return {
        experiment.name: _plan_runs(experiment, sizes[experiment.problem], folder)[:at_most]
        for experiment in EXPERIMENTS
        if is_chosen(experiment.name)
    }


def _plan_runs(experiment: Experiment, size: Size, folder: Path) -> list[Work]:
    return [_plan_run(experiment, size, folder, seed) for seed in range(min(experiment.runs, size.runs))]


def _plan_run(experiment: Experiment, size: Size, folder: Path, seed: int) -> Work:
    problem = size.problem or experiment.problem
    training = {**experiment.training, **({} if size.iterations is None else {"iterations": size.iterations})}
    return Work(
        experiment.name,
        folder / f"{experiment.name}-{seed}.zarr",
        problem,
        size.options,
        lca.TrainConfig(**recipe(problem, {**training, "seed": seed})),
        PRESETS[experiment.problem].duration["iterations"],
        _plan_allocations(experiment, size, first=seed == 0),
    )


def _plan_allocations(experiment: Experiment, size: Size, first: bool) -> dict[str, Options]:
    options = {**size.train, **experiment.allocation}
    found: dict[str, Options] = {}
    if size.whole is not None and experiment.allocation.get("keep") != "tensors":
        found["whole"] = size.whole  # first, because table 1 needs it
    found["train"] = options
    if experiment.val:
        found["val"] = {"split": "val", "audit": 0.0}
    if first:
        rule = options.get("rule", lca.AllocateConfig.rule)
        found |= {name: {**size.train, **given} for name, given in experiment.also.items() if name != rule}
        subsets = size.subsets if experiment.subsets else ()
        found |= {f"subset-{n}": {**size.train, "examples": n, "audit": 0.0} for n in subsets}
    if experiment.final:
        found["final"] = {**size.final, "iterations": "last", "keep": "tensors", "audit": 0.0}
    return found


def make(work: Work, data_dir: Path | None, team: Workers, progress: bool) -> None:
    """Train and allocate the missing parts of a run. The first process trains, and all processes allocate."""
    missing = work.missing
    if not missing:
        return
    problem = work.load(data_dir)
    if not work.is_trained and team.first:
        lca.train(problem, work.path, work.training, resume=True, progress=progress)
    if team.first:
        team.add(f"trained/{work.path}")
    team.wait(f"trained/{work.path}")
    for name in missing:
        lca.allocate(work.path, problem, work.config(name), progress=progress)


def _describe_run(run: Run) -> dict[str, Any]:
    return {
        "problem": Path(run.attributes["problem"]).name,
        "problem_options": run.attributes["problem_options"],
        **run.attributes["train"],
    }


def _describe_allocation(allocation: Allocation) -> dict[str, Any]:
    return {**allocation.attributes, "by_class": bool(allocation.classes)}


def _expect_allocation(config: lca.AllocateConfig, allocation: Allocation) -> dict[str, Any]:
    chosen = config.range(allocation.n_iterations)
    return {
        **{name: value for name, value in vars(config).items() if name not in PROBED and value is not None},
        "iterations": [chosen.start, chosen.stop, chosen.step],
        "examples": config.examples or allocation.attributes["examples_in_split"],
    }


def _require_same(path: object, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise LCAError if a run or an allocation was made with options that differ from the experiment."""
    for key, value in expected.items():
        if found.get(key) != value:
            remedy = "Delete it, so that it is made again, or choose another folder."
            raise LCAError(f"{path}: {key}", expected=repr(value), found=repr(found.get(key)), remedy=remedy)
