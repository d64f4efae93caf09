"""How well allocations over a part of the examples agree with the one over all."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._subset import Subset
from lca.figures.style import DEFAULT, Look, head, one_or_more, tidy


def subset(results: Subset | Sequence[Subset], look: Look = DEFAULT) -> Figure:
    """results: of lca.analysis.subset, of one run or several, a line each."""
    results = one_or_more(results)
    panels_of = {
        "correlation of A": ("correlation", 1),
        "same sign (%)": ("same_sign", 100),
        "layers off by (%)": ("layer_error", 100),
        "helping off by (points)": ("helping_error", 1),
    }
    with look.figure(7.2, 4.6) as figure:
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for axes, (label, (name, scale)) in zip(panels, panels_of.items(), strict=True):
            for result in results:
                found = list(result.agreements.values())
                x = [agreement.examples for agreement in found]
                y = [scale * getattr(agreement, name) for agreement in found]
                axes.plot(x, y, "o-", color=look.colours.others[0], markersize=4)
            axes.axvline(results[0].n_examples, color="#999999", linewidth=0.8, linestyle=":")
            axes.set_xscale("log")
            axes.set_ylabel(label)
        panels[0].set_ylim(top=1.02)
        panels[3].axhline(0, color="#999999", linewidth=0.8)
        for axes in panels[2:]:
            axes.set_xlabel("examples (dotted: all)")
        head(panels[0], look.title)
        tidy(*np.asarray(panels))
    return figure
