"""Helped, hurt and zero over the iterations, with the loss above.     [arXiv 1909.01440, figure 3a]"""

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Helping
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import draw_loss, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look


def helping(runs: Runs[Helping], look: Look = DEFAULT, *, name: str = "train", unconverged: bool = False) -> Figure:
    """Draw the shares of the parameters that helped, hurt and did neither in each iteration, with the loss above.

    Args:
        runs: A path or a Run; or a result of `lca.analysis.helping`.
        look: Title, colours and style, and the iterations that are shown.
        name: Name of the allocation.
        unconverged: Whether iterations that did not converge count.

    Returns:
        The figure, which `lca.figures.save` writes.

    Raises:
        UsageError: `runs` is something else, or several runs.

    Example:
        >>> figure = lca.figures.helping("run.zarr", lca.figures.Look(iterations=(0, 200)))
        >>> lca.figures.save(figure, "helping.png")
    """
    result, look = ask_one(analysis.helping, Helping, runs, look, name=name, unconverged=unconverged)
    with look.figure(7.2, 4.4) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
        span, colours = look.choose_iterations(len(result.helped)), look.colours
        iterates = np.arange(span.start, span.stop + 1)
        draw_loss(top, iterates, result.loss)
        set_title(top, look.title)

        shares = result.shares
        edges = iterates - 0.5
        below = np.zeros(len(edges) - 1)
        for values, colour, label in (
            (shares.helped, colours.help, "helped"),
            (shares.zero, colours.zero, "zero"),
            (shares.hurt, colours.hurt, "hurt"),
        ):
            share = values[span]
            bottom.stairs(below + share, edges, baseline=below, fill=True, color=colour, label=label, linewidth=0)
            below = below + share
        bottom.axhline(50, color=INK, linewidth=0.7, linestyle=":")
        bottom.set_ylim(0, 100)
        bottom.set_ylabel("parameters (%)")
        set_time_axis(bottom, span, iterates=True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        tidy(top, bottom)
    return figure
