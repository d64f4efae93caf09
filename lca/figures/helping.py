"""Helped, hurt and zero over the iterations, with the loss above.     [arXiv 1909.01440, figure 3a]"""

import numpy as np
from matplotlib.figure import Figure

from lca.analysis.helping import Helping
from lca.figures.style import HELP, HURT, INK, ZERO, new_figure, tidy


def draw(result: Helping, title: str) -> Figure:
    figure = new_figure(7.2, 4.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
    T = len(result.helped)
    top.plot(np.arange(T + 1), result.loss, color=INK, linewidth=1.4)
    top.set_ylabel("loss (nats)")
    top.set_ylim(bottom=0)
    top.set_title(title, loc="left", fontsize=10)

    helped, hurt, zero = result.shares()
    edges = np.arange(T + 1) - 0.5
    below = np.zeros(T)
    for share, colour, label in ((helped, HELP, "helped"), (zero, ZERO, "zero"), (hurt, HURT, "hurt")):
        bottom.stairs(below + share, edges, baseline=below, fill=True, color=colour, label=label, linewidth=0)
        below = below + share
    bottom.axhline(50, color=INK, linewidth=0.7, linestyle=":")
    bottom.set_ylim(0, 100)
    bottom.set_xlim(0, T)
    bottom.set_ylabel("parameters (%)")
    bottom.set_xlabel("iteration")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    for axes in (top, bottom):
        tidy(axes)
    return figure
