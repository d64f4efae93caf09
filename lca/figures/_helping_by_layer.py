"""The percentage of helping parameters in each layer.     [arXiv 1909.01440, figure 3c]"""

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Helping
from lca.analysis.statistics import mean_and_deviation
from lca.figures.asking import Runs, ask
from lca.figures.axes import choose_width, name_layers, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look


def helping_by_layer(runs: Runs[Helping], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot the percentage of helping parameters in each layer.

    The percentage is taken over the parameters with a non-zero LCA in an iteration, and averaged over the iterations.
    For several runs, the bars show means and the error bars show standard deviations.

    Args:
        runs: One or more runs (paths or ``Run`` objects), or results of ``lca.analysis.helping``.
        look: Title, colors, style and layers to show.
        name: Name of the allocation.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis.

    Example:
        >>> lca.figures.helping_by_layer(["run-0.zarr", "run-1.zarr"])
    """
    results, look = ask(analysis.helping, Helping, runs, look, name=name)
    chosen = look.choose_layers(results[0].layers)
    names = [results[0].layers[i] for i in chosen]
    mean, deviation = mean_and_deviation([result.percentage_by_layer[chosen] for result in results])
    with look.figure(choose_width(names), 3.2) as figure:
        axes = figure.subplots()
        positions = np.arange(len(names))
        axes.bar(positions, mean, width=0.7, color=look.palette.help)
        if len(results) > 1:
            axes.errorbar(positions, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=1)
        axes.axhline(50, color=INK, linewidth=0.8, linestyle=":")
        axes.set_ylim(0, 100)
        axes.set_ylabel("helping parameters, LCA < 0\n(% of those with an effect)")
        name_layers(axes, names)
        set_title(axes, look.title)
        tidy(axes)
    return figure
