"""The built-in problems by name, dataset–network as the paper names them, each with its recipe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from lca.errors import UsageError
from lca.zoo import datasets, networks


@dataclass(frozen=True)
class Preset:
    """recipe: what differs from the defaults of TrainConfig."""

    data: datasets.Loader
    network: Callable[[], nn.Module]
    recipe: Mapping[str, Any]


_four_epochs = {"iterations": 880}
_mnist_fc = partial(networks.fully_connected, 784, 100, 50, 10)

PRESETS = {
    "digits-fc": Preset(datasets.digits, partial(networks.fully_connected, 64, 32, 16, 10), {"iterations": 300}),
    "mnist-fc": Preset(datasets.mnist, _mnist_fc, _four_epochs),
    "mnist-lenet": Preset(datasets.mnist, networks.lenet, _four_epochs),
    "fashion-fc": Preset(datasets.fashion_mnist, _mnist_fc, _four_epochs),
    "fashion-lenet": Preset(datasets.fashion_mnist, networks.lenet, _four_epochs),
}


def find(problem: str) -> Preset:
    if problem not in PRESETS:
        raise UsageError(f"unknown problem {problem!r}; the known ones are {', '.join(PRESETS)}.")
    return PRESETS[problem]


def recipe(problem: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of TrainConfig that a problem is trained with, those given first; epochs given replace iterations."""
    fields = {**find(problem).recipe, **given}
    if "epochs" in given and "iterations" not in given:
        fields.pop("iterations", None)
    return fields
