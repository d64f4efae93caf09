"""Helped, hurt and zero over the iterations, with the loss above.     [arXiv 1909.01440, figure 3a]"""

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._helping import Helping
from lca.figures.style import DEFAULT, INK, Look, head, loss_line, tidy, time_axis


def helping(result: Helping, look: Look = DEFAULT) -> Figure:
    """result: of lca.analysis.helping."""
    with look.figure(7.2, 4.4) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
        span, colours = look.span(len(result.helped)), look.colours
        iterates = np.arange(span.start, span.stop + 1)
        loss_line(top, iterates, result.loss)
        head(top, look.title)

        helped, hurt, zero = (share[span] for share in result.shares())
        edges = iterates - 0.5
        below = np.zeros(len(helped))
        for share, colour, label in (
            (helped, colours.help, "helped"),
            (zero, colours.zero, "zero"),
            (hurt, colours.hurt, "hurt"),
        ):
            bottom.stairs(below + share, edges, baseline=below, fill=True, color=colour, label=label, linewidth=0)
            below = below + share
        bottom.axhline(50, color=INK, linewidth=0.7, linestyle=":")
        bottom.set_ylim(0, 100)
        bottom.set_ylabel("parameters (%)")
        time_axis(bottom, span, iterates=True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        tidy(top, bottom)
    return figure
