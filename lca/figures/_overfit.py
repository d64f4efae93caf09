"""What the layers learn that does not help on another split, in total and over time."""

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
    unconverged: bool = False,
    against: str = "val",
) -> Figure:
    """Draw what the layers learn that does not help on another split, and below how that of the first run came about.

    Args:
        runs: A path, a Run, or a sequence of these; or results of `lca.analysis.overfit`.
        look: Title, colours and style, and the layers that are shown.
        name: Name of the allocation.
        unconverged: Whether iterations that did not converge count.
        against: Name of the allocation of a split that was not trained on.

    Returns:
        The figure, which `lca.figures.save` writes.

    Raises:
        UsageError: `runs` is something else.

    Example:
        >>> lca.figures.overfit("run.zarr", against="test")
    """
    results, look = ask(analysis.overfit, Overfit, runs, look, name=name, unconverged=unconverged, against=against)
    first = results[0]
    chosen = look.choose_layers(first.layers)
    names = [first.layers[i] for i in chosen]
    mean, deviation = mean_and_deviation([np.nansum(result.gap, axis=0)[chosen] for result in results])
    with look.figure(max(7.2, choose_width(names)), 6) as figure:
        top, bottom = figure.subplots(2, 1)
        positions = np.arange(len(names))
        top.bar(positions, mean, width=0.7, color=look.colours.by_sign(mean))
        if len(results) > 1:
            top.errorbar(positions, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=1)
        name_layers(top, names)
        top.set_ylabel(f"LCA on {first.names[1]} less\nthat on {first.names[0]} (nats)")
        set_title(top, look.title)
        cumulative = np.where(np.isnan(first.gap), np.nan, first.cumulative_gap)
        colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(chosen)))
        for i, colour in zip(chosen, colours, strict=True):
            label = escape_text(first.layers[i])
            draw_line(bottom, np.arange(len(cumulative)), cumulative[:, i], color=colour, label=label)
        bottom.set_ylabel("the same, cumulative (nats)" + (",\nfirst run" if len(results) > 1 else ""))
        figure.legend(loc="outside right lower", frameon=False, fontsize="small")
        set_time_axis(bottom, slice(0, len(cumulative)))
        for axes in (top, bottom):
            axes.axhline(0, color=INK, linewidth=0.8)
        tidy(top, bottom)
    return figure
