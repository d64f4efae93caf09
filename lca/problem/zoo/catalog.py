"""The catalog of the built-in problems: size, cost and default training, computed without the data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lca.model.parameters import build_table
from lca.problem.zoo.datasets import DataSet
from lca.problem.zoo.presets import Option, find, recipe


@dataclass(frozen=True)
class Entry:
    """A built-in problem.

    `n_train`, `n_val` and `n_test` count examples. `pass_gflop` is the cost of the loss and its gradient over the
    training split, in 10⁹ floating-point operations. `recipe` contains the fields of `TrainConfig` that the problem
    sets. `options` maps each option of the problem to its value, and `layers` lists the names of its layers.
    """

    problem: str
    data: str
    n_train: int
    n_val: int
    n_test: int
    n_parameters: int
    pass_gflop: float
    recipe: dict[str, Any]
    options: dict[str, Option]
    layers: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe(problem: str, given: Mapping[str, Any] | None = None) -> Entry:
    """Return the entry of a problem, with the given options in place of their defaults."""
    preset = find(problem)
    options = preset.resolve(given or {})
    with torch.device("meta"):  # tensors with shapes but without values
        model = preset.network(**options)
    table = build_table(model)
    return Entry(
        problem=problem,
        data=preset.data.name,
        n_train=preset.data.n_train,
        n_val=preset.data.n_val,
        n_test=preset.data.n_test,
        n_parameters=table.size,
        pass_gflop=_count_gflop(model, preset.data),
        recipe=recipe(problem, {}),
        options=options,
        layers=table.layers,
    )


def _count_gflop(model: nn.Module, data: DataSet) -> float:
    """Count the matrix products and convolutions of a pass over the training split, in 10⁹ operations.

    The count is extrapolated from two examples, because BatchNorm does not accept a single one.
    """
    n = 2
    with torch.device("meta"), FlopCounterMode(display=False) as flops:
        data.losses(model.train(), data.empty(n)).sum().backward()  # type: ignore[no-untyped-call]
    return float(flops.get_total_flops() / n * data.n_train / 1e9)
