"""What a scale asks for, and what of it is missing; and how that is made, with lca as anyone would use it."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from paper.experiments import EXPERIMENTS, Experiment, Options, Size

import lca
from lca.batch import taken
from lca.errors import LCAError
from lca.parameters import flatten
from lca.stream import count
from lca.workers import Workers
from lca.zoo.presets import recipe

N_TIMED = {"cpu": 100, "cuda": 2_000}  # examples in the passes that are timed for the forecast
POINTS = {"simpson": 2, "trapezoid": 1, "first-order": 1}  # gradients an iteration, where the next one shares its end
AUDIT_POINTS = 12  # gradients of an audited iteration
CHOSEN = ("name", "device", "batch_size", "channels_last", "examples")  # of an allocation, when it is made
STORED = {"weights": 0.55, "lca": 0.78, "rounded": 0.42}  # of raw float32, on disk


@dataclass(frozen=True)
class Work:
    """One run of an experiment. problem: what is trained. options: of it. allocations: by name, in their order."""

    experiment: str
    path: Path
    problem: str
    options: Options
    training: lca.TrainConfig
    allocations: Mapping[str, Options]

    @property
    def trained(self) -> bool:
        return self.path.exists() and lca.open(self.path).status == "complete"

    @property
    def missing(self) -> list[str]:
        """The allocations that are not finished. LCAError where what is there was made otherwise."""
        if not self.trained:
            return list(self.allocations)
        run = lca.open(self.path)
        _require_same(self.path, run.attributes["train"], _plain(self.training), besides=("device", "epochs"))
        there = {name: run.allocation(name) for name in self.allocations if name in run.allocations}
        for name, allocation in there.items():
            config = self.config(name)
            chosen = config.range(run.n_iterations)
            wanted = {**vars(config), "iterations": [chosen.start, chosen.stop, chosen.step]}
            _require_same(f"{self.path}, {name},", allocation.attributes, wanted, besides=CHOSEN)
        return [name for name in self.allocations if not (name in there and there[name].complete)]

    def config(self, name: str) -> lca.AllocateConfig:
        options = dict(self.allocations[name])
        if options.get("iterations") == "last":
            T = self.training.iterations
            options["iterations"] = f"{T - 1}:{T}"  # type: ignore[operator]
        return lca.AllocateConfig(name=name, **options)


def plan(
    sizes: Mapping[str, Size], folder: Path, wanted: Callable[[str], bool], at_most: int | None = None
) -> dict[str, list[Work]]:
    """The runs of each experiment, at most so many, by its name."""
    return {
        experiment.name: [
            _work(experiment, sizes[experiment.problem], folder, seed) for seed in _seeds(experiment, sizes)[:at_most]
        ]
        for experiment in EXPERIMENTS
        if wanted(experiment.name)
    }


def _seeds(experiment: Experiment, sizes: Mapping[str, Size]) -> range:
    return range(min(experiment.runs, sizes[experiment.problem].runs))


def _work(experiment: Experiment, size: Size, folder: Path, seed: int) -> Work:
    problem = size.problem or experiment.problem
    training = {**experiment.training, **({} if size.iterations is None else {"iterations": size.iterations})}
    options = {**size.train, **experiment.allocation}
    allocations: dict[str, Options] = {"train": options}
    if size.whole is not None and experiment.allocation.get("keep") != "layers":
        allocations["whole"] = {**experiment.allocation, **size.whole}
    if experiment.val:
        allocations["val"] = {"split": "val", "audit": 0.0}
    if seed == 0:
        allocations |= {name: {**options, **given} for name, given in experiment.also.items()}
        sizes = size.subsets if experiment.subsets else ()
        allocations |= {f"subset-{n}": {**size.train, "examples": n, "audit": 0.0} for n in sizes}
    if experiment.final:
        allocations["final"] = {**size.final, "iterations": "last", "keep": "layers", "audit": 0.0}
    return Work(
        experiment.name,
        folder / f"{experiment.name}-{seed}.zarr",
        problem,
        size.options,
        lca.TrainConfig(**recipe(problem, {**training, "seed": seed})),
        allocations,
    )


def make(work: Work, data_dir: Path | None, team: Workers, progress: bool) -> None:
    """Train and allocate what is missing of a run. The first process trains, all of them allocate."""
    missing = work.missing
    if not missing:
        return
    problem = load(work, data_dir)
    if team.first:
        lca.train(problem, work.path, work.training, resume=True, progress=progress)
        team.count(f"trained/{work.path}")
    team.wait(f"trained/{work.path}")
    for name in missing:
        lca.allocate(work.path, problem, work.config(name), progress=progress)


def load(work: Work, data_dir: Path | None) -> lca.Problem:
    return lca.load(work.problem, options=work.options, data_dir=data_dir, seed=work.training.seed)


@dataclass(frozen=True)
class Forecast:
    """seconds, n_bytes: of what is missing. n_runs, n_allocations: in all; n_missing: of the allocations."""

    seconds: float
    n_bytes: float
    n_runs: int
    n_allocations: int
    n_missing: int


def forecast(works: Iterable[Work], data_dir: Path | None) -> Forecast:
    """From the time that a pass over a few examples takes of each problem that something is missing of."""
    works, costs = list(works), dict[tuple[str, str], Cost]()
    seconds = n_bytes = 0.0
    n_missing = 0
    for work in works:
        missing = work.missing
        if not missing:
            continue
        key = work.problem, str(dict(work.options))
        if key not in costs:
            costs[key] = _cost(work, data_dir)
        cost, T = costs[key], work.training.iterations or 1
        if not work.trained:
            seconds += T * work.training.batch_size * cost.seconds
            n_bytes += 4 * cost.n_parameters * (T + 1) * STORED["weights"]
        for name in missing:
            config = work.config(name)
            n = len(config.range(T))
            seconds += _n_passes(config, n) * _n_examples(config, cost) * cost.seconds
            part = STORED["rounded" if config.keep_bits <= 10 else "lca"] if config.keep == "lca" else 0.0
            n_bytes += 4 * cost.n_parameters * n * part
            n_missing += 1
    return Forecast(seconds, n_bytes, len(works), sum(len(work.allocations) for work in works), n_missing)


@dataclass(frozen=True)
class Cost:
    """seconds: of a forward and backward pass, an example. n_examples: by split."""

    seconds: float
    n_parameters: int
    n_examples: Mapping[str, int]


def _cost(work: Work, data_dir: Path | None) -> Cost:
    problem = load(work, data_dir)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, data = problem.model.to(device), taken(problem.train, slice(N_TIMED[device]))
    batch = problem.scale(data) if problem.scale else data
    batch = tuple(x.to(device) for x in batch)

    def seconds() -> float:
        begin = time.perf_counter()
        loss = problem.losses(model, batch).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())
        return time.perf_counter() - begin

    splits = {name: getattr(problem, name) for name in ("train", "val", "test")}
    sizes = {name: count(split) for name, split in splits.items() if split is not None}
    n = len(batch[0])
    return Cost(min(seconds() for _ in range(4)) / n, len(flatten(model)), sizes)


def _n_passes(config: lca.AllocateConfig, n: int) -> float:
    isolated = config.iterations is not None and config.iterations.count(":") == 2
    audited = max(5, round(config.audit * n)) if config.audit else 0
    return n * (POINTS[config.rule] + isolated) + 1 + AUDIT_POINTS * min(audited, n)


def _n_examples(config: lca.AllocateConfig, cost: Cost) -> int:
    return config.examples or cost.n_examples.get(config.split, 0)


def _plain(config: lca.TrainConfig) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(config).items()}


def _require_same(what: object, there: Mapping[str, Any], wanted: Mapping[str, Any], besides: tuple[str, ...]) -> None:
    """Raise where something was made with other options than the table has now."""
    for key, value in wanted.items():
        if key not in besides and key in there and there[key] != value:
            raise LCAError(
                f"{what} was made with {key} {there[key]!r}, and {value!r} is wanted now. Remove it, and it is made "
                "anew, or choose another folder."
            )
