"""Iterations per change of direction, by layer.     [arXiv 1909.01440, figure S7]"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._oscillation import Oscillation, report
from lca.analysis.statistics import mean_and_deviation
from lca.figures.style import DEFAULT, INK, Look, head, name_layers, one_or_more, tidy, width_for


def oscillation(results: Oscillation | Sequence[Oscillation], look: Look = DEFAULT) -> Figure:
    """results: of lca.analysis.oscillation, of one run or several."""
    results = one_or_more(results)
    table = report(results).tables[0]
    rows = [0, *(1 + i for i in look.chosen(results[0].table.layers))]
    names = ["all", *(table.rows[i] for i in rows[1:])]
    width = 0.8 / len(table.columns)
    with look.figure(width_for(names) + 0.5, 3.4) as figure:
        axes = figure.subplots()
        for i, (what, column) in enumerate(table.columns.items()):
            values = np.where(np.isfinite(column.values), column.values, np.nan)[:, rows]
            mean, deviation = mean_and_deviation(values)
            at = np.arange(len(names)) + (i - (len(table.columns) - 1) / 2) * width
            axes.bar(at, mean, width, color=look.colours.others[i], label=what)
            if len(results) > 1:
                axes.errorbar(at, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=0.8)
        name_layers(axes, names)
        axes.set_ylabel("iterations per change")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        head(axes, look.title)
        tidy(axes)
    return figure
