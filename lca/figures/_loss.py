"""The loss, and what the parts sum to: L_0 + Σ A over the iterations, and the residual below."""

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._error import LossCurve
from lca.figures.style import DEFAULT, INK, Look, head, loss_line, tidy, time_axis


def loss(result: LossCurve, look: Look = DEFAULT) -> Figure:
    """result: of lca.analysis.loss_curve."""
    span, colours = look.span(len(result.allocated)), look.colours
    iterates = np.arange(span.start, span.stop + 1)
    with look.figure(7.2, 4.4) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        loss_line(top, iterates, result.loss, label="loss")
        for i, stretch in enumerate(result.stretches):
            label = "L₀ + Σ A" if i == 0 else None
            top.plot(stretch, result.summed(stretch), "--", color=colours.others[1], label=label)
        top.legend(frameon=False)
        head(top, look.title)
        residual = result.residual[span]
        bottom.plot(iterates[:-1], residual, ".", color=INK, markersize=2)
        for sign in (-1, 1):
            bottom.axhline(sign * result.tolerance, color=colours.hurt, linewidth=0.8, linestyle=":")
        largest = np.nanmax(np.abs(residual), initial=0)
        bottom.set_ylim(*(sign * 1.15 * max(largest, result.tolerance) for sign in (-1, 1)))
        bottom.set_ylabel("residual (nats)\ndotted: tolerance")
        time_axis(bottom, span, iterates=True)
        tidy(top, bottom)
    return figure
