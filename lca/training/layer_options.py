"""Layers that are trained differently from the rest: frozen layers, and layers with their own optimizer options."""

from collections.abc import Sequence

from torch import Tensor, nn

from lca.errors import UsageError
from lca.model.parameters import build_table, get_trainable
from lca.store.layer_options import Freeze, LayerOptions
from lca.store.parameters import match_layers


def find_options(model: nn.Module, texts: Sequence[str]) -> list[tuple[Tensor, dict[str, float]]]:
    """Return every trainable parameter with the options set for its layer. Later texts override earlier ones."""
    table = build_table(model)
    rules = [(match_layers(rule.layers, table.layers), rule.options) for rule in map(LayerOptions.parse, texts)]

    def get_options(layer: str) -> dict[str, float]:
        return {name: value for layers, options in rules if layer in layers for name, value in options.items()}

    return [(tensor, get_options(p.layer)) for tensor, p in zip(get_trainable(model).values(), table, strict=True)]


def find_frozen(model: nn.Module, texts: Sequence[str]) -> list[tuple[Tensor, int]]:
    """Return each parameter that is frozen at some point, with the first iteration that does not move it.

    Raises UsageError if every layer is frozen from the beginning.
    """
    table = build_table(model)
    freezes = [(match_layers(freeze.layers, table.layers), freeze.start) for freeze in map(Freeze.parse, texts)]
    starts = [[start for layers, start in freezes if p.layer in layers] for p in table]
    if all(0 in each for each in starts):
        raise UsageError("freeze selects every layer, so nothing is trained", remedy="Leave at least one layer out.")
    return [(tensor, min(s)) for tensor, s in zip(get_trainable(model).values(), starts, strict=True) if s]
