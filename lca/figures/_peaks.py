"""Moments of learning, by layer and by class; those that all layers share in another colour.

[arXiv 1909.01440, figures 6, S16 to S19]
"""

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._synchrony import Synchrony
from lca.figures.style import DEFAULT, INK, Look, head, name_layers, tidy, time_axis

ROW, NAMED_ROW = 0.11, 0.19  # inches
TALLEST = 12.0


def peaks(result: Synchrony, look: Look = DEFAULT, what: str | None = None) -> Figure:
    """result: of lca.analysis.synchrony. what: whose peaks, "LCA", "gradient norm", "motion" or "LCA by class".

    By class unless it is said, if the result has that.
    """
    what = what or ("LCA by class" if "LCA by class" in result.series else "LCA")
    series, chosen_layers = result.series[what], look.chosen(result.layers)
    n_layers = len(chosen_layers)
    n_classes = len(series.peaks)
    span = look.span(len(result.iterations.counted))
    row = ROW if n_classes > 1 else NAMED_ROW
    with look.figure(7.2, min(max(2.2, 1.0 + row * n_classes * (n_layers + 1)), TALLEST)) as figure:
        axes = figure.subplots()
        for c, (of_class, shared) in enumerate(zip(series.peaks, series.synchronised, strict=True)):
            bottom = c * (n_layers + 1)
            for layer, at in enumerate(of_class[chosen_layers]):
                there = at[(at >= span.start) & (at < span.stop)]
                together = np.isin(there, shared)
                for those, colour in ((~together, INK), (together, look.colours.hurt)):
                    heights = np.full(those.sum(), bottom + layer)
                    axes.plot(there[those], heights, ".", color=colour, markersize=4 if colour != INK else 3)
            if c:
                axes.axhline(bottom - 1, color="#cccccc", linewidth=0.6)
        if n_classes > 1:
            middles = np.arange(n_classes) * (n_layers + 1) + (n_layers - 1) / 2
            axes.set_yticks(middles, result.classes)
            axes.set_ylabel(f"class; in it {n_layers} layers,\nthe first one lowest")
        else:
            name_layers(axes, [result.layers[i] for i in chosen_layers], vertical=True)
        axes.set_ylim(-1, n_classes * (n_layers + 1) - 1)
        chance = series.baseline.mean()
        told = f"peaks of {what}; in all {len(result.layers)} layers: {series.n}, by chance {chance:.1f}"
        head(axes, f"{look.title}\n{told}" if look.title else told)
        time_axis(axes, span)
        tidy(axes)
    return figure
