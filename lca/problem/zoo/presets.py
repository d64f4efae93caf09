"""The built-in problems by name, dataset–network as the paper names them, each with its options and its recipe."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from lca.errors import UsageError
from lca.problem.user_code import is_factory
from lca.problem.zoo import networks, text
from lca.problem.zoo.datasets import CIFAR10, DIGITS, FASHION_MNIST, MNIST, DataSet
from lca.problem.zoo.text import STANDARD_LIBRARY
from lca.problem.zoo.transformer import transformer

Option = int | float

# What `--set NAME=VALUE` may change, in words; which of them a problem has, its network tells.
OPTIONS = {
    "width": "factor on the units or channels of every hidden layer",
    "layers": "dense layers, 3 to 5",
    "blocks": "residual blocks in each of the three stages, or blocks of a transformer",
}


@dataclass(frozen=True)
class Preset:
    """network: makes the model, with the problem's options as keywords. duration: epochs or iterations of the recipe.

    learning_rates: by optimizer, where it is not the optimizer's own default; scripts/paper/search_rates.py tells
    how they were found.
    """

    data: DataSet
    network: Callable[..., nn.Module]
    duration: Mapping[str, int]
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    optimizer: str = "sgd"

    @property
    def options(self) -> dict[str, Option]:
        """The options and their defaults."""
        keywords = inspect.signature(self.network).parameters.values()
        return {p.name: p.default for p in keywords if p.kind is p.KEYWORD_ONLY and p.name in OPTIONS}

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Option]:
        """All options, those given in place of the defaults; text is read as the number that it says."""
        unknown = [name for name in given if name not in self.options]
        if unknown:
            raise UsageError(f"the problem has no option {unknown[0]!r}; its options are {', '.join(self.options)}.")
        return {name: _number(name, given.get(name, default), type(default)) for name, default in self.options.items()}


def _number(name: str, value: Any, kind: type) -> Option:
    try:
        number: Option = kind(value)
        if number != float(value):
            raise ValueError
    except (ValueError, TypeError):
        expected = "a whole number" if kind is int else "a number"
        raise UsageError(name, expected=expected, found=repr(value)) from None
    return number


_EPOCHS_4 = {"iterations": 880}  # of 55,000 examples
_EPOCHS_25 = {"iterations": 4_500}  # of 45,000

_dense = partial(networks.fully_connected, 784, 100, 50, 10)
_resnet_20 = partial(networks.resnet, stages=(16, 32, 64), blocks=3)

PRESETS = {
    "digits-fc": Preset(DIGITS, partial(networks.fully_connected, 64, 32, 16, 10), {"iterations": 300}),
    "digits-resnet": Preset(
        DIGITS, partial(networks.resnet, 1, stages=(8, 16, 32), blocks=1), {"iterations": 300}, {"sgd": 0.1}
    ),
    **{
        f"{name}-{network}": Preset(data, make, _EPOCHS_4, rates)
        for name, data in (("mnist", MNIST), ("fashion", FASHION_MNIST))
        for network, make, rates in (
            ("fc", _dense, {"sgd": 0.05}),
            ("lenet", networks.lenet, {"sgd": 0.05}),
            ("resnet", partial(_resnet_20, 1), {"sgd": 0.1}),
        )
    },
    "cifar-fc": Preset(CIFAR10, partial(networks.geometric_fully_connected, 3_072), _EPOCHS_25, {"sgd": 0.01}),
    "cifar-resnet": Preset(CIFAR10, partial(_resnet_20, 3), _EPOCHS_25, {"sgd": 0.1}),
    "cifar-allcnn": Preset(CIFAR10, networks.all_convolutional, _EPOCHS_25, {"sgd": 0.1}),
    "cifar-vgg": Preset(
        CIFAR10,
        partial(networks.vgg, stages=((32,), (64,), (128, 128), (256, 256)), dense=(512, 512)),
        _EPOCHS_25,
        {"sgd": 0.05},
    ),
    "cifar-vgg-mini": Preset(
        CIFAR10, partial(networks.vgg, stages=((64,), (128,), (256,)), dense=(512,)), _EPOCHS_25, {"sgd": 0.02}
    ),
    "charlm-transformer": Preset(
        STANDARD_LIBRARY,
        partial(transformer, len(text.ALPHABET), text.CONTEXT),
        {"iterations": 400},  # 50 epochs of 2,000
        {"adam": 0.003},
        "adam",
    ),
}


def find(problem: str) -> Preset:
    if problem not in PRESETS:
        own = f"{problem}:NAME_OF_THE_FUNCTION" if problem.endswith(".py") else "path/file.py:factory"
        raise UsageError(
            f"unknown problem {problem!r}; the known ones are {', '.join(PRESETS)}",
            remedy=f"Name one of your own as {own} or package.module:factory.",
        )
    return PRESETS[problem]


def recipe(problem: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of TrainConfig that a problem is trained with, those given first; epochs given replace iterations.

    One that is not built in has no recipe: it is trained with the defaults.
    """
    if problem not in PRESETS and is_factory(problem):
        return dict(given)
    preset = find(problem)
    fields: dict[str, Any] = {} if "epochs" in given else dict(preset.duration)
    optimizer = given.get("optimizer", preset.optimizer)
    rate = preset.learning_rates.get(optimizer)
    fields |= {"optimizer": optimizer}
    fields |= {} if rate is None else {"learning_rate": rate}
    return fields | dict(given)
