"""Layers that are trained otherwise than the rest: frozen, or with options of their own.

A layer is named as in the parameter table, so that a bias, and a norm that follows, goes with its kernel; or by a glob
("block?.conv1"), or as "first" or "last".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

from torch import Tensor, nn

from lca.errors import UsageError
from lca.parameters import ParameterTable, trainable

# Options that a layer may have of its own, by the names that a user may give them.
OPTIONS = {
    "lr": "learning_rate",
    "learning_rate": "learning_rate",
    "momentum": "momentum",
    "l2": "l2",
    "weight_decay": "weight_decay",
}


@dataclass(frozen=True)
class Freeze:
    """From the step of iteration `start` on, no parameter of the layers moves."""

    layers: str
    start: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """ "LAYER" or "LAYER@ITERATION"."""
        layers, at, start = text.partition("@")
        if not layers or (at and not start.isdecimal()):
            raise UsageError(f"freeze is {text!r}; LAYER or LAYER@ITERATION was wanted, such as last or fc1@200.")
        return cls(layers, int(start) if at else 0)


@dataclass(frozen=True)
class LayerOptions:
    """What the optimizer has for these layers in place of its options."""

    layers: str
    options: dict[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """ "LAYER:lr=0.01,momentum=0.5"."""
        layers, _, given = text.rpartition(":")
        options = {}
        for part in given.split(","):
            name, _, value = part.partition("=")
            try:
                options[OPTIONS[name.strip()]] = float(value)
            except (KeyError, ValueError):
                layers = ""
        if not layers:
            raise UsageError(
                f"layer is {text!r}; LAYER:NAME=NUMBER,… was wanted, with the names {', '.join(OPTIONS)}, "
                "such as last:lr=0.01,momentum=0.5."
            )
        return cls(layers, options)


def matching(pattern: str, layers: Sequence[str]) -> set[str]:
    """The layers that are meant; an error if there are none."""
    if pattern in layers:
        return {pattern}
    if pattern in ("first", "last"):
        return {layers[0 if pattern == "first" else -1]}
    found = {layer for layer in layers if fnmatchcase(layer, pattern)}
    if not found:
        raise UsageError(f"the model has no layer {pattern!r}; it has {', '.join(layers)}, first and last.")
    return found


def options_by_parameter(model: nn.Module, texts: Sequence[str]) -> list[tuple[Tensor, dict[str, float]]]:
    """Every trainable parameter with the options that its layer has of its own; where two say, the later one counts."""
    table = ParameterTable.of(model)
    rules = [(matching(rule.layers, table.layers), rule.options) for rule in map(LayerOptions.parse, texts)]

    def own(layer: str) -> dict[str, float]:
        return {name: value for layers, options in rules if layer in layers for name, value in options.items()}

    return [(tensor, own(p.layer)) for tensor, p in zip(trainable(model).values(), table, strict=True)]


def frozen_from(model: nn.Module, texts: Sequence[str]) -> list[tuple[Tensor, int]]:
    """The parameters that are frozen, each with the first iteration whose step does not move it."""
    table = ParameterTable.of(model)
    freezes = [(matching(freeze.layers, table.layers), freeze.start) for freeze in map(Freeze.parse, texts)]
    starts = [[start for layers, start in freezes if p.layer in layers] for p in table]
    return [(tensor, min(s)) for tensor, s in zip(trainable(model).values(), starts, strict=True) if s]
