"""In how many of the iterations a parameter helps.     [arXiv 1909.01440, figure 3d]"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis.helping import N_BINS, Helping
from lca.figures.style import INK, Look, head, new_figure, tidy


def draw(results: Sequence[Helping], look: Look) -> Figure:
    """The mean over runs, of the parameters with any effect; a line for each run where there are several."""
    shares = np.array([100 * result.histogram / max(result.histogram.sum(), 1) for result in results])
    edges = np.linspace(0, 100, N_BINS + 1)
    figure = new_figure(4.8, 3.2)
    axes = figure.subplots()
    axes.stairs(shares.mean(axis=0), edges, fill=True, color=look.colours.help, alpha=0.85)
    for share in shares if len(results) > 1 else ():
        axes.stairs(share, edges, color=INK, linewidth=0.5)
    axes.axvline(50, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 100)
    axes.set_xlabel("iterations in which a parameter helps (%)")
    axes.set_ylabel("parameters (%)")
    head(axes, look.title)
    tidy(axes)
    return figure
