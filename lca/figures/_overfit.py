"""What the layers learn that does not help on another split, in total and over time."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca.analysis._overfit import Overfit
from lca.analysis.statistics import mean_and_deviation
from lca.figures.style import (
    DEFAULT,
    INK,
    Look,
    head,
    line,
    name_layers,
    one_or_more,
    plain,
    tidy,
    time_axis,
    width_for,
)


def overfit(results: Overfit | Sequence[Overfit], look: Look = DEFAULT) -> Figure:
    """results: of lca.analysis.overfit, of one run or several. Below the gap how that of the first came about."""
    results = one_or_more(results)
    first = results[0]
    chosen = look.chosen(first.layers)
    names = [first.layers[i] for i in chosen]
    mean, deviation = mean_and_deviation([np.nansum(result.gap, axis=0)[chosen] for result in results])
    with look.figure(max(7.2, width_for(names)), 6) as figure:
        top, bottom = figure.subplots(2, 1)
        positions = np.arange(len(names))
        top.bar(positions, mean, width=0.7, color=look.colours.of(mean))
        if len(results) > 1:
            top.errorbar(positions, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=1)
        name_layers(top, names)
        top.set_ylabel(f"LCA on {first.names[1]} less\nthat on {first.names[0]} (nats)")
        head(top, look.title)
        span = slice(0, len(first.train))
        cumulative = np.where(np.isnan(first.gap), np.nan, first.cumulative_gap)
        colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(chosen)))
        for i, colour in zip(chosen, colours, strict=True):
            line(bottom, np.arange(len(cumulative)), cumulative[:, i], color=colour, label=plain(first.layers[i]))
        bottom.set_ylabel("the same, cumulative (nats)" + (",\nfirst run" if len(results) > 1 else ""))
        figure.legend(loc="outside right lower", frameon=False, fontsize="small")
        time_axis(bottom, span)
        for axes in (top, bottom):
            axes.axhline(0, color=INK, linewidth=0.8)
        tidy(top, bottom)
    return figure
