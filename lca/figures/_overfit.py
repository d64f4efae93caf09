"""The difference between the LCA on a held-out split and on the training split, by layer."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Overfit
from lca.analysis.statistics import mean_and_deviation
from lca.figures.asking import Runs, ask
from lca.figures.axes import choose_width, draw_line, escape_text, name_layers, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look


def overfit(
    runs: Runs[Overfit],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    against: str = "val",
) -> Figure:
    """Plot how much less each layer helps on a held-out split than on the training split.

    The difference is the LCA on the held-out split minus the LCA on the training split. Above 0 the layer overfits. The
    top panel shows the totals. For several runs, its bars show means and its error bars show standard deviations. The
    bottom panel shows the cumulative difference of the first run over time.

    Args:
        runs: One or more runs (paths or ``Run`` objects), or results of ``lca.analysis.overfit``.
        look: Title, colors, style and layers to show.
        name: Name of the allocation.
        against: Name of the allocation on the held-out split.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis.

    Example:
        >>> lca.figures.overfit("run.zarr", against="test")
    """
    results, look = ask(analysis.overfit, Overfit, runs, look, name=name, against=against)
    first = results[0]
    chosen = look.choose_layers(first.layers)
    names, unit = [first.layers[i] for i in chosen], escape_text(first.unit)
    mean, deviation = mean_and_deviation([np.nansum(result.gap, axis=0)[chosen] for result in results])
    with look.figure(max(7.2, choose_width(names)), 6) as figure:
        top, bottom = figure.subplots(2, 1)
        positions = np.arange(len(names))
        top.bar(positions, mean, width=0.7, color=look.palette.by_sign(mean))
        if len(results) > 1:
            top.errorbar(positions, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=1)
        name_layers(top, names)
        top.set_ylabel(f"LCA on {first.names[1]} − {first.names[0]} ({unit})\nabove 0 overfits")
        set_title(top, look.title)
        cumulative = np.where(np.isnan(first.gap), np.nan, first.cumulative_gap)
        colors = colormaps["turbo"](np.linspace(0.05, 0.95, len(chosen)))
        for i, color in zip(chosen, colors, strict=True):
            label = escape_text(first.layers[i])
            draw_line(bottom, np.arange(len(cumulative)), cumulative[:, i], color=color, label=label)
        bottom.set_ylabel(f"cumulative difference ({unit})" + (",\nfirst run" if len(results) > 1 else ""))
        figure.legend(loc="outside right lower", frameon=False, fontsize="small")
        set_time_axis(bottom, slice(0, len(cumulative)))
        for axes in (top, bottom):
            axes.axhline(0, color=INK, linewidth=0.8)
        tidy(top, bottom)
    return figure
