"""A forecast of the time and disk space that the missing runs need, based on a timed pass over a few examples."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import lca
from lca.errors import LCAError
from lca.model.parameters import flatten
from lca.problem.batches import map_tensors
from lca.problem.streaming import count_examples, take_first
from lca.runtime.device import resolve_device
from lca.store.audit import count_audited
from paper.making import Work

N_TIMED = {"cpu": 500, "cuda": 2_000}  # examples in a timed pass
POINTS = {
    "simpson": 2,
    "trapezoid": 1,
    "first-order": 1,
}  # gradients per iteration if the next iteration is allocated too
AUDIT_POINTS = 9  # gradients of an audited iteration: 4n + 1 with n = 2 subintervals
STORED = {"weights": 0.55, "lca": 0.78, "rounded": 0.42}  # size on disk relative to raw float32


@dataclass(frozen=True)
class Forecast:
    """The work that is missing: its duration, its size on disk and its number of allocations.

    `unknown` maps experiments that cannot be forecast to the reason.
    """

    seconds: float
    n_bytes: float
    n_missing: int
    unknown: Mapping[str, str]


@dataclass(frozen=True)
class Cost:
    """The cost of a problem.

    `seconds` is the duration of a forward and backward pass per example. `n_examples` maps each split to its size.
    """

    seconds: float
    n_parameters: int
    n_examples: Mapping[str, int]


def forecast(works: Iterable[Work], data_dir: Path | None) -> Forecast:
    costs: dict[tuple[str, str], Cost] = {}
    unknown: dict[str, str] = {}
    seconds, n_bytes, n_missing = 0.0, 0.0, 0
    for work in works:
        key = work.problem, str(dict(work.options))
        try:
            missing = work.missing
            if missing and key not in costs:
                costs[key] = _measure_cost(work.load(data_dir))
        except LCAError as error:
            unknown[work.experiment] = str(error)
            continue
        n_missing += len(missing)
        if missing:
            more = _add_up(work, missing, costs[key])
            seconds, n_bytes = seconds + more[0], n_bytes + more[1]
    return Forecast(seconds, n_bytes, n_missing, unknown)


def _add_up(work: Work, missing: list[str], cost: Cost) -> tuple[float, float]:
    """Return the seconds and bytes that the missing parts of a run need."""
    T, K = work.n_iterations, cost.n_parameters
    examples, n_bytes = 0.0, 0.0
    if not work.is_trained:
        examples += T * work.training.batch_size
        n_bytes += 4 * K * (T + 1) * STORED["weights"]
    for name in missing:
        config = work.config(name)
        n = len(config.range(T))
        examples += _count_passes(config, n) * (config.examples or cost.n_examples.get(config.split, 0))
        if config.keep == "lca":
            n_bytes += 4 * K * n * STORED["rounded" if config.keep_bits <= 10 else "lca"]
    return examples * cost.seconds, n_bytes


def _count_passes(config: lca.AllocateConfig, n: int) -> int:
    isolated = config.iterations is not None and config.iterations.count(":") == 2
    audited = count_audited(n, config.audit)
    return n * (POINTS[config.rule] + isolated) + 1 + AUDIT_POINTS * audited


def _measure_cost(problem: lca.Problem) -> Cost:
    device = resolve_device("auto")
    model, data = problem.model.to(device), take_first(problem.train, N_TIMED[device.type])
    batch = map_tensors(problem.scale(data) if problem.scale else data, lambda x: x.to(device))

    def seconds() -> float:
        begin = time.perf_counter()
        loss = problem.losses(model, batch).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # waits for the device
        return time.perf_counter() - begin

    n_examples = {name: count_examples(problem.split(name)) for name in problem.splits}
    return Cost(min(seconds() for _ in range(3)) / count_examples(data), len(flatten(model)), n_examples)


def describe_device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
