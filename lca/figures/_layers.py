"""The total LCA of each layer, over runs; groups of runs as colours.     [arXiv 1909.01440, figures 4, S11 to S14]"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._layers import Layers
from lca.analysis.statistics import mean_and_deviation
from lca.figures.style import DEFAULT, INK, Look, head, name_layers, one_or_more, plain, tidy, width_for

WIDTH = 0.78  # of the bars of a layer together


def layers(groups: Mapping[str, Sequence[Layers]] | Sequence[Layers] | Layers, look: Look = DEFAULT) -> Figure:
    """groups: results of lca.analysis.layers, a run each, by what their group is called; or those of a single
    group, or of a single run.

    A single group is coloured by who helps and who hurts.
    """
    groups = groups if isinstance(groups, Mapping) else {"runs": one_or_more(groups)}
    first = next(iter(groups.values()))[0]
    chosen = look.chosen(first.layers)
    names = [first.layers[i] for i in chosen]
    positions, width = np.arange(len(names)), WIDTH / len(groups)
    with look.figure(width_for(names), 3.6) as figure:
        axes = figure.subplots()
        for i, (label, results) in enumerate(groups.items()):
            mean, deviation = mean_and_deviation([result.total[chosen] for result in results])
            at = positions + (i - (len(groups) - 1) / 2) * width
            colour = look.colours.of(mean) if len(groups) == 1 else look.colours.others[i % len(look.colours.others)]
            axes.bar(at, mean, width, color=colour, label=plain(f"{label} (n = {len(results)})"))
            if len(results) > 1:
                axes.errorbar(at, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=1)
        axes.axhline(0, color=INK, linewidth=0.8)
        name_layers(axes, names)
        axes.set_ylabel("total LCA (nats)\nhelps below 0, hurts above")
        if len(groups) > 1:
            figure.legend(loc="outside upper left", frameon=False)  # clear of the bars, wherever they are
        head(axes, look.title)
        tidy(axes)
        axes.spines["bottom"].set_visible(False)
    return figure
