"""In how many of the iterations a parameter helps.     [arXiv 1909.01440, figure 3d]"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._helping import N_BINS, Helping
from lca.figures.style import DEFAULT, INK, Look, head, one_or_more, tidy


def helping_by_parameter(results: Helping | Sequence[Helping], look: Look = DEFAULT) -> Figure:
    """results: of lca.analysis.helping, of one run or several: the mean, and a line for each.

    Parameters without effect are left out.
    """
    results = one_or_more(results)
    shares = np.array([100 * result.histogram / max(result.histogram.sum(), 1) for result in results])
    edges = np.linspace(0, 100, N_BINS + 1)
    with look.figure(4.8, 3.2) as figure:
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
