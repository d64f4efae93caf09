"""Single parameters over time: their cumulative LCA.     [arXiv 1909.01440, section 2.2]"""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca.analysis._curves import Curves
from lca.figures.style import DEFAULT, INK, Look, head, line, plain, tidy, time_axis

MAX_NAMED = 20


def curves(result: Curves, look: Look = DEFAULT) -> Figure:
    """result: of lca.analysis.curves."""
    span = look.span(result.lca.shape[1])
    n = len(result.names)
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, n))
    with look.figure(7.2, max(3.6, 1.2 + 0.19 * min(n, MAX_NAMED))) as figure:
        axes = figure.subplots()
        cumulative = np.where(np.isnan(result.lca), np.nan, result.cumulative)
        for name, curve, colour in zip(result.names, cumulative, colours, strict=True):
            line(axes, np.arange(span.start, span.stop), curve[span], color=colour, label=plain(name), linewidth=1)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylabel("cumulative LCA (nats)\nhelps below 0, hurts above")
        if n <= MAX_NAMED:
            figure.legend(loc="outside right upper", frameon=False, fontsize="small")
        head(axes, look.title)
        time_axis(axes, span)
        tidy(axes)
    return figure
