"""The cumulative LCA of each layer, for the training loss and for the loss on another split."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Layers
from lca.figures.asking import Runs, list_given, open_one, require_one, require_results
from lca.figures.axes import SIGNS, draw_line, escape_text, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look

STYLES = {"-": "solid", "--": "dashed", ":": "dotted"}  # line styles of the first, second and third allocation


def cumulative(runs: Runs[Layers] | Mapping[str, Layers], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot the cumulative LCA of each layer over time: one color per layer, one line style per allocation.

    A falling line means that the layer helps, because LCA below 0 lowers the loss.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.layers``. To compare up to three allocations of
            one run, pass a mapping from their names to their results.
        look: Title, colors, style, layers and iterations to show.
        name: Name of the allocation. A complete allocation named "val" is drawn as well.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis.

    Example:
        >>> lca.figures.cumulative("run.zarr", lca.figures.Look(layers="fc*"))
    """
    if isinstance(runs, Mapping):
        require_results(runs, Layers)
        return _draw(runs, look)
    given = list_given(runs)
    require_one(given)
    if isinstance(given[0], Layers):
        return _draw({name: given[0]}, look)
    run, look = open_one(given, look, name)
    has_val = "val" in run.allocations and run.allocation("val").complete
    names = dict.fromkeys([name, *(["val"] if has_val else [])])
    return _draw({each: analysis.layers(run, name=each) for each in names}, look)


def _draw(results: Mapping[str, Layers], look: Look) -> Figure:
    first = next(iter(results.values()))
    layers, unit = first.layers, escape_text(first.unit)
    curves = {name: np.where(np.isnan(result.lca), np.nan, result.cumulative) for name, result in results.items()}
    chosen = look.choose_layers(layers)
    span = look.choose_iterations(len(next(iter(curves.values()))))
    colors = colormaps["turbo"](np.linspace(0.05, 0.95, len(chosen)))
    with look.figure(7.2, max(3.6, 1.2 + 0.19 * len(chosen))) as figure:
        axes = figure.subplots()
        x = np.arange(span.start, span.stop)
        for name, style in zip(curves, STYLES, strict=False):
            for i, color in zip(chosen, colors, strict=True):
                label = escape_text(layers[i]) if style == "-" else None
                draw_line(axes, x, curves[name][span, i], style, color=color, label=label)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylabel(f"cumulative LCA ({unit})\n{SIGNS}")
        styles = ", ".join(f"{name} {word}" for name, word in zip(curves, STYLES.values(), strict=False))
        title = styles if len(curves) > 1 else None
        figure.legend(loc="outside right upper", frameon=False, fontsize="small", title=title)
        set_title(axes, look.title)
        set_time_axis(axes, span)
        tidy(axes)
    return figure
