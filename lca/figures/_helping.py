"""The percentages of parameters that help and hurt in each iteration.     [arXiv 1909.01440, figure 3a]"""

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Helping
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import draw_loss, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look


def helping(runs: Runs[Helping], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot the percentages of parameters that help, have no effect and hurt in each iteration, with the loss above.

    A parameter helps if its LCA is below 0 and hurts if it is above 0.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.helping``.
        look: Title, colors, style and iterations to show.
        name: Name of the allocation.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis.

    Example:
        >>> figure = lca.figures.helping("run.zarr", lca.figures.Look(iterations=(0, 200)))
        >>> lca.figures.save(figure, "helping.png")
    """
    result, look = ask_one(analysis.helping, Helping, runs, look, name=name)
    with look.figure(7.2, 4.4) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
        span, colors = look.choose_iterations(len(result.helped)), look.palette
        iterates = np.arange(span.start, span.stop + 1)
        draw_loss(top, iterates, result.loss, result.unit)
        set_title(top, look.title)

        shares = result.shares
        edges = iterates - 0.5
        below = np.zeros(len(edges) - 1)
        for values, color, label in (
            (shares.helped, colors.help, "helped (LCA < 0)"),
            (shares.zero, colors.zero, "no effect"),
            (shares.hurt, colors.hurt, "hurt (LCA > 0)"),
        ):
            share = values[span]
            bottom.stairs(below + share, edges, baseline=below, fill=True, color=color, label=label, linewidth=0)
            below = below + share
        bottom.axhline(50, color=INK, linewidth=0.7, linestyle=":")
        bottom.set_ylim(0, 100)
        bottom.set_ylabel("parameters (%)")
        set_time_axis(bottom, span, iterates=True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        tidy(top, bottom)
    return figure
