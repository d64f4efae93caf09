"""The cumulative LCA of individual parameters over time.     [arXiv 1909.01440, section 2.2]"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Curves
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import SIGNS, draw_line, escape_text, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look

MAX_NAMED = 20  # largest number of curves for which a legend is drawn


def curves(
    runs: Runs[Curves],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    parameters: Sequence[str] = ("best", "worst"),
    seed: int = 0,
) -> Figure:
    """Plot the cumulative LCA of individual parameters over time.

    A falling line means that the parameter helps, because LCA below 0 lowers the loss.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.curves``.
        look: Title, style and iterations to show.
        name: Name of the allocation.
        parameters: Parameters to plot. "best", "worst" and "random" select five each. Others are selected by their
            index in θ, such as "4", by their tensor, such as "fc1.bias", or by tensor and index, such as
            "fc1.weight[3, 7]".
        seed: Random seed for "random".

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis, or a parameter does not exist.

    Example:
        >>> lca.figures.curves("run.zarr", parameters=["best", "fc3.bias"])
    """
    options = {"parameters": parameters, "seed": seed}
    result, look = ask_one(analysis.curves, Curves, runs, look, name=name, **options)
    span = look.choose_iterations(result.lca.shape[1])
    n = len(result.names)
    colors = colormaps["turbo"](np.linspace(0.05, 0.95, n))
    with look.figure(7.2, max(3.6, 1.2 + 0.19 * min(n, MAX_NAMED))) as figure:
        axes = figure.subplots()
        cumulative = np.where(np.isnan(result.lca), np.nan, result.cumulative)
        x = np.arange(span.start, span.stop)
        for parameter, curve, color in zip(result.names, cumulative, colors, strict=True):
            draw_line(axes, x, curve[span], color=color, label=escape_text(parameter), linewidth=1)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylabel(f"cumulative LCA ({escape_text(result.unit)})\n{SIGNS}")
        if n <= MAX_NAMED:
            figure.legend(loc="outside right upper", frameon=False, fontsize="small")
        set_title(axes, look.title)
        set_time_axis(axes, span)
        tidy(axes)
    return figure
