"""How the LCA of each layer adds up, on the training loss and on that of another split."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca.figures.style import INK, Floats, Look, head, line, new_figure, plain, tidy, time_axis


def draw(layers: Sequence[str], curves: dict[str, Floats], look: Look) -> Figure:
    """curves: by the name of the allocation, (T, layer), cumulative, in nats; NaN in iterations that do not count."""
    chosen = look.chosen(layers)
    span = look.span(len(next(iter(curves.values()))))
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(chosen)))
    figure = new_figure(7.2, max(3.6, 1.2 + 0.19 * len(chosen)))
    axes = figure.subplots()
    for name, style in zip(curves, ("-", "--", ":"), strict=False):
        for i, colour in zip(chosen, colours, strict=True):
            label = plain(layers[i]) if style == "-" else None
            line(axes, np.arange(span.start, span.stop), curves[name][span, i], style, color=colour, label=label)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylabel("cumulative LCA (nats)")
    styles = ", ".join(f"{name} {word}" for name, word in zip(curves, ("solid", "dashed", "dotted"), strict=False))
    figure.legend(loc="outside right upper", frameon=False, fontsize="small", title=styles if len(curves) > 1 else None)
    head(axes, look.title)
    time_axis(axes, span)
    tidy(axes)
    return figure
