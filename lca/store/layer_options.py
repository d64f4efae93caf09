"""Training options for single layers: frozen layers, and layers with their own optimizer options.

A layer is selected by its name in the parameter table, by a glob such as "block?.conv1", or as "first" or "last". A
layer includes the bias of its kernel and the normalization that follows it, if any.
"""

from dataclasses import dataclass
from typing import Self

from lca.errors import UsageError

# The options that can be set per layer. The keys are the accepted names, and the values are the names in TrainConfig.
LAYER_OPTIONS = {
    "lr": "learning_rate",
    "learning_rate": "learning_rate",
    "momentum": "momentum",
    "l2": "l2",
    "weight_decay": "weight_decay",
}


@dataclass(frozen=True)
class Freeze:
    """A selection of layers that are frozen, starting at iteration `start`."""

    layers: str
    start: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "LAYER" or "LAYER@ITERATION"."""
        layers, at, start = text.partition("@")
        if not layers or (at and not start.isdecimal()):
            raise UsageError("freeze", expected="LAYER or LAYER@ITERATION, such as last or fc1@200", found=repr(text))
        return cls(layers, int(start) if at else 0)


@dataclass(frozen=True)
class LayerOptions:
    """Optimizer options of the selected layers, which override those of the whole model."""

    layers: str
    options: dict[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse text such as "LAYER:lr=0.01,momentum=0.5"."""
        layers, _, given = text.rpartition(":")
        options: dict[str, float] = {}
        for part in given.split(","):
            name, _, value = part.partition("=")
            try:
                option, number = LAYER_OPTIONS[name.strip()], float(value)
            except (KeyError, ValueError):
                layers = ""
                break
            if option in options:
                raise UsageError(f"{text!r} sets {option} twice", remedy="Set each option of a layer once.")
            options[option] = number
        if not layers:
            raise UsageError(
                "layers",
                expected=f"LAYER:NAME=NUMBER,… with the names {', '.join(LAYER_OPTIONS)}, such as last:lr=0.01",
                found=repr(text),
            )
        return cls(layers, options)
