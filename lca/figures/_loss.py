"""The loss of a run, compared with its first value plus the sum of all LCA."""

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import LossCurve
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import draw_loss, escape_text, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look


def loss(runs: Runs[LossCurve], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot the loss and L₀ + Σ A, the first loss plus the sum of all LCA so far (top), and the residuals (bottom).

    The residual of an iteration is the sum of its LCA minus the change in the loss. If iterations are missing, the sum
    starts again from the loss after each gap.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.loss_curve``.
        look: Title, colors, style and iterations to show.
        name: Name of the allocation.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis.

    Example:
        >>> lca.figures.save(lca.figures.loss("run.zarr"), "loss.png")
    """
    result, look = ask_one(analysis.loss_curve, LossCurve, runs, look, name=name)
    span, colors = look.choose_iterations(len(result.allocated)), look.palette
    iterates = np.arange(span.start, span.stop + 1)
    with look.figure(7.2, 4.4) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        draw_loss(top, iterates, result.loss, result.unit, label="loss")
        for i, stretch in enumerate(result.stretches):
            label = "L₀ + Σ A" if i == 0 else None
            top.plot(stretch, result.rebuild_loss(stretch), "--", color=colors.others[1], label=label)
        top.legend(frameon=False)
        set_title(top, look.title)
        residual = result.residual[span]
        bottom.plot(iterates[:-1], residual, ".", color=INK, markersize=2)
        for sign in (-1, 1):
            bottom.axhline(sign * result.tolerance, color=colors.hurt, linewidth=0.8, linestyle=":")
        largest = np.nanmax(np.abs(residual), initial=0)
        bottom.set_ylim(*(sign * 1.15 * max(largest, result.tolerance) for sign in (-1, 1)))
        bottom.set_ylabel(f"residual ({escape_text(result.unit)})\ndotted: tolerance")
        set_time_axis(bottom, span, iterates=True)
        tidy(top, bottom)
    return figure
