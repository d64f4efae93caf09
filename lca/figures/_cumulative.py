"""How the LCA of each layer adds up, on the training loss and on that of another split."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca.analysis._layers import Layers
from lca.figures.style import DEFAULT, INK, Look, head, line, plain, tidy, time_axis


def cumulative(results: Mapping[str, Layers], look: Look = DEFAULT) -> Figure:
    """results: of lca.analysis.layers, of the same run, by the name of the allocation; three at most."""
    layers = next(iter(results.values())).layers
    curves = {name: np.where(np.isnan(result.lca), np.nan, result.cumulative) for name, result in results.items()}
    chosen = look.chosen(layers)
    span = look.span(len(next(iter(curves.values()))))
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(chosen)))
    with look.figure(7.2, max(3.6, 1.2 + 0.19 * len(chosen))) as figure:
        axes = figure.subplots()
        for name, style in zip(curves, ("-", "--", ":"), strict=False):
            for i, colour in zip(chosen, colours, strict=True):
                label = plain(layers[i]) if style == "-" else None
                line(axes, np.arange(span.start, span.stop), curves[name][span, i], style, color=colour, label=label)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylabel("cumulative LCA (nats)")
        styles = ", ".join(f"{name} {word}" for name, word in zip(curves, ("solid", "dashed", "dotted"), strict=False))
        figure.legend(
            loc="outside right upper", frameon=False, fontsize="small", title=styles if len(curves) > 1 else None
        )
        head(axes, look.title)
        time_axis(axes, span)
        tidy(axes)
    return figure
