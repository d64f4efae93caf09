"""LCA of the layers against an option of the training.     [arXiv 1909.01440, figure 5]"""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca.analysis._trend import Trend
from lca.figures.style import DEFAULT, INK, Look, head, name_layers, plain, tidy, width_for


def trend(result: Trend, look: Look = DEFAULT) -> Figure:
    """result: of lca.analysis.trend.

    At the left all layers, a colour for each value of the option; at the right the last of them with its line.
    """
    chosen = look.chosen(result.layers)
    names, values = [result.layers[i] for i in chosen], np.unique(result.x)
    with look.figure(width_for(names) + 3, 3.6) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[width_for(names), 3])
        colours = colormaps["viridis"](np.linspace(0, 0.9, len(values)))
        for value, colour in zip(values, colours, strict=True):
            mean = result.lca[result.x == value][:, chosen].mean(axis=0)
            left.plot(np.arange(len(names)), mean, "o-", color=colour, markersize=3, label=f"{value:g}")
        left.axhline(0, color=INK, linewidth=0.8)
        name_layers(left, names)
        left.set_ylabel("total LCA (nats)\nhelps below 0, hurts above")
        left.legend(title=plain(result.option), frameon=False, fontsize="small", title_fontsize="small", ncols=2)
        head(left, look.title)
        last = chosen[-1]
        right.scatter(result.x, result.lca[:, last], color=look.colours.of(result.lca[:, last]), s=16, zorder=2)
        if np.isfinite(result.slope[last]):
            ends = np.array([values[0], values[-1]])
            line = result.intercept[last] + result.slope[last] * ends
            right.plot(ends, line, color=INK, linestyle="--", label=f"R² = {result.r_squared[last]:.3f}")
            right.legend(frameon=False)
        right.set_xlabel(plain(result.option))
        right.set_ylabel(plain(f"LCA of {result.layers[last]} (nats)"))
        tidy(left, right)
    return figure
