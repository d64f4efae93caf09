"""The built-in problems, named dataset–network as in the paper, with their options and their default training."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from torch import nn

from lca.errors import UsageError
from lca.problem.user_code import is_factory
from lca.problem.zoo import networks, text
from lca.problem.zoo.datasets import CIFAR10, DIGITS, FASHION_MNIST, MNIST, DataSet
from lca.problem.zoo.text import STANDARD_LIBRARY
from lca.problem.zoo.transformer import transformer

Option = int | float

LARGEST_OPTION = 1_000  # beyond it, a network would not fit into memory

# The meaning of each problem option. The signature of a network determines which options its problem has.
OPTIONS = {
    "width": "factor by which the size of every hidden layer is multiplied",
    "layers": "number of dense layers, 3 to 5",
    "blocks": "number of residual blocks per stage, or of transformer blocks",
}


@dataclass(frozen=True)
class Preset:
    """A built-in problem.

    `network` makes the model, and its keyword arguments are the problem's options. `duration` is the number of epochs
    or iterations of the default training. `learning_rates` maps an optimizer to the problem's learning rate if it
    differs from the optimizer's default. These rates were found by scripts/paper/search_rates.py.
    """

    data: DataSet
    network: Callable[..., nn.Module]
    duration: Mapping[str, int]
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    optimizer: str = "sgd"

    @property
    def options(self) -> dict[str, Option]:
        """The problem's options and their defaults."""
        keywords = inspect.signature(self.network).parameters.values()
        return {p.name: p.default for p in keywords if p.kind is p.KEYWORD_ONLY and p.name in OPTIONS}

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Option]:
        """Return all options, with those in `given` in place of the defaults. Text is converted to numbers."""
        unknown = [name for name in given if name not in self.options]
        if unknown:
            options = ", ".join(self.options)
            raise UsageError(f"the problem has no option {unknown[0]!r}", remedy=f"Its options are {options}.")
        return {
            name: _parse_number(name, given.get(name, default), type(default)) for name, default in self.options.items()
        }


def _parse_number(name: str, value: Any, kind: type) -> Option:
    try:
        number: Option = kind(value)
        if number != float(value):
            raise ValueError
    except (ValueError, TypeError):
        expected = "a whole number" if kind is int else "a number"
        raise UsageError(name, expected=expected, found=repr(value)) from None
    if LARGEST_OPTION < number < inf:
        raise UsageError(name, expected=f"at most {LARGEST_OPTION:,}", found=f"{number:g}")
    return number


_EPOCHS_4 = {"iterations": 880}  # 4 epochs of 55,000 examples
_EPOCHS_25 = {"iterations": 4_500}  # 25 epochs of 45,000 examples

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
        {"iterations": 400},  # 50 epochs of 2,000 examples
        {"adam": 0.003},
        "adam",
    ),
}


def find(problem: str) -> Preset:
    """Return a built-in problem. Raise UsageError if there is none with this name."""
    if problem not in PRESETS:
        own = f"{problem}:NAME_OF_THE_FUNCTION" if problem.endswith(".py") else "path/file.py:factory"
        raise UsageError(
            f"unknown problem {problem!r}. The built-in problems are {', '.join(PRESETS)}",
            remedy=f"To use your own problem, pass {own} or package.module:factory.",
        )
    return PRESETS[problem]


def recipe(problem: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `TrainConfig` for a problem: its default training, overridden by the fields in `given`.

    If `given` contains epochs, they replace the default iterations. A problem that is not built in has no default
    training, so only the fields in `given` are returned.
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
