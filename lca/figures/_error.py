"""The residual of each iteration, by allocation.     [arXiv 1909.01440, table S1]"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._error import LossCurve
from lca.figures.style import DEFAULT, Floats, Look, head, line, plain, tidy, time_axis


def error(curves: Mapping[str, LossCurve], look: Look = DEFAULT) -> Figure:
    """curves: of lca.analysis.loss_curve, by what each allocation is called; below, what has accumulated."""
    span = look.span(len(next(iter(curves.values())).allocated))
    x = np.arange(span.start, span.stop)
    with look.figure(7.2, 4.8) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for i, (name, curve) in enumerate(curves.items()):
            colour = look.colours.others[i % len(look.colours.others)]
            each, together = (
                _size(values)[span]
                for values in (curve.residual, np.where(np.isnan(curve.residual), np.nan, np.nancumsum(curve.residual)))
            )
            top.plot(x, each, ".", color=colour, markersize=3, label=plain(name))
            line(bottom, x, together, color=colour)
        top.axhline(next(iter(curves.values())).tolerance, color="#999999", linewidth=0.8, linestyle=":")
        top.set_ylabel("|residual| (nats)\ndotted: tolerance")
        bottom.set_ylabel("cumulative (nats)")
        if any(np.isfinite(_size(curve.residual[span])).any() for curve in curves.values()):
            for axes in (top, bottom):
                axes.set_yscale("log")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=3)
        head(top, look.title)
        time_axis(bottom, span)
        tidy(top, bottom)
    return figure


def _size(values: Floats) -> Floats:
    """As a logarithmic scale can show it: none where it is 0."""
    return np.where(values == 0, np.nan, np.abs(values))
