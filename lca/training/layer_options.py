"""Layers that are trained differently from the rest: frozen, or with options of their own."""

from collections.abc import Sequence

from torch import Tensor, nn

from lca.model.parameters import build_table, get_trainable
from lca.store.layer_options import Freeze, LayerOptions
from lca.store.parameters import match_layers


def find_options(model: nn.Module, texts: Sequence[str]) -> list[tuple[Tensor, dict[str, float]]]:
    """Every trainable parameter with the options that its layer has of its own; where two say, the later one counts."""
    table = build_table(model)
    rules = [(match_layers(rule.layers, table.layers), rule.options) for rule in map(LayerOptions.parse, texts)]

    def own(layer: str) -> dict[str, float]:
        return {name: value for layers, options in rules if layer in layers for name, value in options.items()}

    return [(tensor, own(p.layer)) for tensor, p in zip(get_trainable(model).values(), table, strict=True)]


def find_frozen(model: nn.Module, texts: Sequence[str]) -> list[tuple[Tensor, int]]:
    """The parameters that are frozen, each with the first iteration whose step does not move it."""
    table = build_table(model)
    freezes = [(match_layers(freeze.layers, table.layers), freeze.start) for freeze in map(Freeze.parse, texts)]
    starts = [[start for layers, start in freezes if p.layer in layers] for p in table]
    return [(tensor, min(s)) for tensor, s in zip(get_trainable(model).values(), starts, strict=True) if s]
