"""The total LCA of each layer as bars; error bars over runs.     [arXiv 1909.01440, figure 4]"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis.layers import Layers
from lca.analysis.statistics import mean_and_deviation
from lca.figures.style import HELP, HURT, INK, new_figure, tidy


def draw(results: Sequence[Layers], title: str) -> Figure:
    names = results[0].layers
    mean, deviation = mean_and_deviation([result.total for result in results])
    positions = np.arange(len(names))
    figure = new_figure(max(4.8, 1.6 + 0.42 * len(names)), 3.6)
    axes = figure.subplots()
    axes.bar(positions, mean, color=[HELP if value < 0 else HURT for value in mean], width=0.7)
    if len(results) > 1:
        axes.errorbar(positions, mean, deviation, fmt="none", ecolor=INK, capsize=3, linewidth=1)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(
        positions, names, rotation=0 if len(names) <= 6 else 60, ha="center" if len(names) <= 6 else "right"
    )
    axes.set_ylabel("total LCA (nats)\nhelps below 0, hurts above")
    axes.set_title(title, loc="left", fontsize=10)
    tidy(axes)
    axes.spines["bottom"].set_visible(False)
    return figure
