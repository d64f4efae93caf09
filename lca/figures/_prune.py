"""Loss and accuracy of what pruning leaves, by LCA, by magnitude and at random."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._prune import Pruned
from lca.analysis.statistics import mean_and_deviation
from lca.figures.style import DEFAULT, Look, head, one_or_more, tidy


def prune(results: Pruned | Sequence[Pruned], look: Look = DEFAULT) -> Figure:
    """results: of lca.analysis.prune, of one run or several. A line for each criterion, its style by split.

    At the left the loss, at the right the part that is right.
    """
    results = one_or_more(results)
    first = results[0]
    accuracy = all(np.isfinite(values).all() for values in first.accuracy.values())
    with look.figure(7.2, 3.4) as figure:
        panels = figure.subplots(1, 2 if accuracy else 1, squeeze=False)[0]
        parts = 100 * first.pruned
        for split, style in zip(first.loss, ("-", "--", ":"), strict=False):
            for i, criterion in enumerate(first.criteria):
                colour = look.colours.others[i]
                for axes, figures, scale in zip(panels, ("loss", "accuracy"), (1, 100), strict=False):
                    of_runs = [scale * getattr(result, figures)[split][i] for result in results]
                    mean, deviation = mean_and_deviation(of_runs)
                    axes.plot(parts, mean, style, color=colour, marker="o", markersize=3, label=f"{criterion}, {split}")
                    if len(results) > 1:
                        axes.fill_between(
                            parts, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0
                        )
        panels[0].set_ylabel("loss (nats)")
        if accuracy:
            panels[1].set_ylabel("right (%)")
            panels[1].set_ylim(0, 100)
        for axes in panels:
            axes.set_xlabel("weights set to 0 (%)")
        panels[0].legend(frameon=False, fontsize="small")
        head(panels[0], look.title)
        tidy(*panels)
    return figure
