"""The iterations in which each layer learns most, by layer and by class.

[arXiv 1909.01440, figures 6, S16 to S19]
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Synchrony
from lca.analysis._synchrony import Series
from lca.errors import UsageError
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import name_layers, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, INK, Colors, Look
from lca.store.run import Run

BY_CLASS = "LCA by class"
QUANTITIES = ("LCA", BY_CLASS, "gradient norm", "motion")
ROW, NAMED_ROW = 0.11, 0.19  # height of a row without and with a name, in inches
TALLEST = 12.0  # largest height of the figure, in inches


def peaks(
    runs: Runs[Synchrony],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    what: str | None = None,
) -> Figure:
    """Plot the iterations in which each layer learns most. Peaks that all layers share have a different color.

    The peaks of LCA are its lowest values, where the layer helps most.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.synchrony``.
        look: Title, colors, style, layers and iterations to show.
        name: Name of the allocation.
        what: Quantity whose peaks are drawn: "LCA", "LCA by class", "gradient norm" or "motion". By default, the LCA by
            class if it was allocated, otherwise the LCA.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis, or ``what`` is unknown or not in the
            result.

    Example:
        >>> lca.figures.peaks("run.zarr", what="gradient norm")
    """
    if what is not None and what not in QUANTITIES:
        raise UsageError("what", expected=f"one of {', '.join(QUANTITIES)}", found=repr(what))
    question = partial(_ask_synchrony, what=what)
    result, look = ask_one(question, Synchrony, runs, look, name=name)
    what = what or (BY_CLASS if BY_CLASS in result.series else "LCA")
    if what not in result.series:
        raise UsageError("what", expected=f"one of {', '.join(result.series)}", found=repr(what))
    series, chosen = result.series[what], look.choose_layers(result.layers)
    n_layers, n_classes = len(chosen), len(series.peaks)
    span = look.choose_iterations(len(result.iterations.mask))
    row = ROW if n_classes > 1 else NAMED_ROW
    with look.figure(7.2, min(max(2.2, 1.0 + row * n_classes * (n_layers + 1)), TALLEST)) as figure:
        axes = figure.subplots()
        _draw_peaks(axes, series, chosen, span, look.palette)
        if n_classes > 1:
            middles = np.arange(n_classes) * (n_layers + 1) + (n_layers - 1) / 2
            axes.set_yticks(middles, result.classes)
            axes.set_ylabel(f"class ({n_layers} layers each,\nthe first at the bottom)")
        else:
            name_layers(axes, [result.layers[i] for i in chosen], vertical=True)
        axes.set_ylim(-1, n_classes * (n_layers + 1) - 1)
        chance = series.baseline.mean()
        counts = f"peaks of {what}: {series.n} shared by all {len(result.layers)} layers ({chance:.1f} by chance)"
        set_title(axes, f"{look.title}\n{counts}" if look.title else counts)
        set_time_axis(axes, span)
        tidy(axes)
    return figure


def _ask_synchrony(runs: Sequence[Run], *, what: str | None, name: str) -> Sequence[Synchrony]:
    """Analyze the run, by class only if the peaks by class are drawn."""
    (run,) = runs
    by_class = what == BY_CLASS or (what is None and "class_lca" in run.allocation(name).arrays)
    return [analysis.synchrony(run, name=name, by_class=by_class)]


def _draw_peaks(axes: Axes, series: Series, layers: list[int], span: slice, colors: Colors) -> None:
    """Draw a row of dots for each layer, grouped by class, starting at the bottom."""
    for c, (of_class, shared) in enumerate(zip(series.peaks, series.synchronized, strict=True)):
        bottom = c * (len(layers) + 1)
        for row, iterations in enumerate(of_class[layers]):
            at = iterations[(iterations >= span.start) & (iterations < span.stop)]
            together = np.isin(at, shared)
            for those, color, size in ((~together, INK, 3), (together, colors.hurt, 4)):
                heights = np.full(those.sum(), bottom + row)
                axes.plot(at[those], heights, ".", color=color, markersize=size)
        if c:
            axes.axhline(bottom - 1, color="#cccccc", linewidth=0.6)
