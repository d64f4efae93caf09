"""The percentage helping of each layer, over runs.     [arXiv 1909.01440, figure 3c]"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._helping import Helping
from lca.analysis.statistics import mean_and_deviation
from lca.figures.style import DEFAULT, INK, Look, head, name_layers, one_or_more, tidy, width_for


def helping_by_layer(results: Helping | Sequence[Helping], look: Look = DEFAULT) -> Figure:
    """results: of lca.analysis.helping, of one run or several: the mean, and its deviation."""
    results = one_or_more(results)
    chosen = look.chosen(results[0].layers)
    names = [results[0].layers[i] for i in chosen]
    mean, deviation = mean_and_deviation([result.percentage_by_layer[chosen] for result in results])
    with look.figure(width_for(names), 3.2) as figure:
        axes = figure.subplots()
        positions = np.arange(len(names))
        axes.bar(positions, mean, width=0.7, color=look.colours.help)
        if len(results) > 1:
            axes.errorbar(positions, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=1)
        axes.axhline(50, color=INK, linewidth=0.8, linestyle=":")
        axes.set_ylim(0, 100)
        axes.set_ylabel("parameters helping (%)\nof those with an effect")
        name_layers(axes, names)
        head(axes, look.title)
        tidy(axes)
    return figure
