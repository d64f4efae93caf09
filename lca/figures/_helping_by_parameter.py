"""A histogram of how often each parameter helps.     [arXiv 1909.01440, figure 3d]"""

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Helping
from lca.figures.asking import Runs, ask
from lca.figures.axes import set_title, tidy
from lca.figures.style import DEFAULT, INK, Look


def helping_by_parameter(runs: Runs[Helping], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot a histogram of the parameters by the percentage of iterations in which they help.

    Parameters that never have an effect are left out. For several runs, the bars show means, and an outline shows each
    run.

    Args:
        runs: One or more runs (paths or ``Run`` objects), or results of ``lca.analysis.helping``.
        look: Title, colors and style.
        name: Name of the allocation.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis.

    Example:
        >>> lca.figures.helping_by_parameter(["run-0.zarr", "run-1.zarr"])
    """
    results, look = ask(analysis.helping, Helping, runs, look, name=name)
    shares = np.array([100 * result.histogram / max(result.histogram.sum(), 1) for result in results])
    edges = np.linspace(0, 100, shares.shape[1] + 1)
    with look.figure(4.8, 3.2) as figure:
        axes = figure.subplots()
        axes.stairs(shares.mean(axis=0), edges, fill=True, color=look.palette.help, alpha=0.85)
        for share in shares if len(results) > 1 else ():
            axes.stairs(share, edges, color=INK, linewidth=0.5)
        axes.axvline(50, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 100)
        axes.set_xlabel("iterations in which a parameter helps (%)")
        axes.set_ylabel("parameters (%)")
        set_title(axes, look.title)
        tidy(axes)
    return figure
