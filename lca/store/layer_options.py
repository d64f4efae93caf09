"""What a training configuration says of single layers: frozen, or with options of their own.

A layer is named as in the parameter table, so that a bias, and a norm that follows, goes with its kernel; or by a glob
("block?.conv1"), or as "first" or "last".
"""

from dataclasses import dataclass
from typing import Self

from lca.errors import UsageError

# Options that a layer may have of its own, by the names that a user may give them.
LAYER_OPTIONS = {
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
        """Read "LAYER" or "LAYER@ITERATION"."""
        layers, at, start = text.partition("@")
        if not layers or (at and not start.isdecimal()):
            raise UsageError("freeze", expected="LAYER or LAYER@ITERATION, such as last or fc1@200", found=repr(text))
        return cls(layers, int(start) if at else 0)


@dataclass(frozen=True)
class LayerOptions:
    """Options of the optimizer that these layers have in place of the general ones."""

    layers: str
    options: dict[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "LAYER:lr=0.01,momentum=0.5"."""
        layers, _, given = text.rpartition(":")
        options = {}
        for part in given.split(","):
            name, _, value = part.partition("=")
            try:
                options[LAYER_OPTIONS[name.strip()]] = float(value)
            except (KeyError, ValueError):
                layers = ""
        if not layers:
            raise UsageError(
                "layers",
                expected=f"LAYER:NAME=NUMBER,… with the names {', '.join(LAYER_OPTIONS)}, such as last:lr=0.01",
                found=repr(text),
            )
        return cls(layers, options)
