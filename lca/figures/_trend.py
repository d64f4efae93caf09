"""The LCA of the layers as a function of a training option.     [arXiv 1909.01440, figure 5]"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Trend
from lca.errors import Argument, UsageError
from lca.figures.asking import Runs, ask, require_one
from lca.figures.axes import SIGNS, choose_width, escape_text, name_layers, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look
from lca.store.run import Run


def trend(
    runs: Runs[Trend],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    option: str | None = None,
    layer: str = "*",
    delay: bool = False,
) -> Figure:
    """Plot the total LCA of each layer for every value of a training option.

    The left panel has one line per value of the option. The right panel plots the LCA of the last of these layers
    against the option, with a linear fit. Below 0 a layer helps, above 0 it hurts.

    Args:
        runs: Runs (paths or ``Run`` objects) that differ in the option, or a result of ``lca.analysis.trend``.
        look: Title, colors, style and layers to show.
        name: Name of the allocation.
        option: Name of a training option, such as "learning_rate", or of an option of a layer, such as
            "last:momentum". Required unless ``runs`` is a result.
        layer: Layers to fit, as a name, a glob, "first" or "last".
        delay: Whether to convert the momentum m to the delay m / (1 − m), in iterations.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis, or ``option`` is missing, not a
            number, or the same in all runs.

    Example:
        >>> lca.figures.trend(["m-0.zarr", "m-5.zarr", "m-9.zarr"], option="last:momentum", delay=True)
    """
    question = partial(_ask_trend, option=option, layer=layer, delay=delay)
    results, look = ask(question, Trend, runs, look, name=name)
    require_one(results)
    result = results[0]
    chosen = look.choose_layers(result.layers)
    names = [result.layers[i] for i in chosen]
    with look.figure(choose_width(names) + 3, 3.6) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[choose_width(names), 3])
        _draw_layers(left, result, chosen)
        name_layers(left, names)
        set_title(left, look.title)
        _draw_fit(right, result, chosen[-1], look)
        tidy(left, right)
    return figure


def _ask_trend(runs: Sequence[Run], *, option: str | None, layer: str, delay: bool, name: str) -> Sequence[Trend]:
    if option is None:
        remedy = ("Pass ", Argument("option"), ', such as "learning_rate".')
        raise UsageError("the trend needs the name of a training option", remedy=remedy)
    return [analysis.trend(runs, option, layer=layer, delay=delay, name=name)]


def _draw_layers(axes: Axes, result: Trend, layers: list[int]) -> None:
    """Draw a line over the layers for each value of the option."""
    values = np.unique(result.x)
    for value, color in zip(values, colormaps["viridis"](np.linspace(0, 0.9, len(values))), strict=True):
        mean = result.lca[result.x == value][:, layers].mean(axis=0)
        axes.plot(np.arange(len(layers)), mean, "o-", color=color, markersize=3, label=f"{value:g}")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylabel(f"total LCA ({escape_text(result.unit)})\n{SIGNS}")
    axes.legend(title=escape_text(result.option), frameon=False, fontsize="small", title_fontsize="small", ncols=2)


def _draw_fit(axes: Axes, result: Trend, layer: int, look: Look) -> None:
    """Draw a point for each run and the least-squares line."""
    lca = result.lca[:, layer]
    axes.scatter(result.x, lca, color=look.palette.by_sign(lca), s=16, zorder=2)
    if np.isfinite(result.slope[layer]):
        ends = np.array([result.x.min(), result.x.max()])
        fitted = result.intercept[layer] + result.slope[layer] * ends
        axes.plot(ends, fitted, color=INK, linestyle="--", label=f"R² = {result.r_squared[layer]:.3f}")
        axes.legend(frameon=False)
    axes.set_xlabel(escape_text(result.option))
    axes.set_ylabel(escape_text(f"LCA of {result.layers[layer]} ({result.unit})\n{SIGNS}"))
