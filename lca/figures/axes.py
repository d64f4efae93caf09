"""Elements that several figures share: titles, lines with gaps, the loss curve, axes and color scales."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lca.figures.style import INK

CLIP = 99.0  # A color scale ends at this percentile of |A|, so that a few large values do not make the rest white.
SIGNS = "below 0 helps, above 0 hurts"  # for every axis and color bar that shows LCA

Floats = NDArray[np.float64]


def tidy(*axes: Axes) -> None:
    """Remove the top and right borders."""
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK)


def set_title(axes: Axes, text: str | None) -> None:
    """Set a small title, aligned to the left."""
    axes.set_title(escape_text(text or ""), loc="left", fontsize="medium")


def escape_text(text: str) -> str:
    """Escape text so that matplotlib shows it literally.

    "$" would start a formula, and a legend omits labels that begin with "_".
    """
    return ("\u2009" if text.startswith("_") else "") + text.replace("$", r"\$")


def draw_line(axes: Axes, x: NDArray[Any], y: NDArray[Any], style: str = "-", **options: Any) -> None:
    """Draw a line with gaps where `y` is NaN, and a dot for every isolated point."""
    (drawn,) = axes.plot(x, y, style, **options)
    known = np.isfinite(y)
    alone = known & ~np.append(False, known[:-1]) & ~np.append(known[1:], False)
    axes.plot(x[alone], y[alone], ".", color=drawn.get_color(), markersize=4)


def draw_loss(axes: Axes, iterates: NDArray[Any], loss: Floats, unit: str, **options: Any) -> None:
    """Draw the loss at the iterates where it is known, on an axis that starts at 0 unless a loss is negative."""
    known = np.isfinite(loss[iterates])
    style = "-" if known.all() else ".-"
    axes.plot(iterates[known], loss[iterates][known], style, color=INK, markersize=4, **options)
    axes.set_ylabel(f"loss ({escape_text(unit)})")
    values = loss[iterates][known]
    if values.size and values.min() >= 0:
        axes.set_ylim(0, 1.05 * max(values.max(), 1e-12))


def name_layers(axes: Axes, names: Sequence[str], vertical: bool = False) -> None:
    """Label the x-axis, or the y-axis if `vertical`, with layer names. Long names on an x-axis are rotated."""
    positions = np.arange(len(names))
    names = [escape_text(name) for name in names]
    if vertical:
        axes.set_yticks(positions, names)
        return
    is_long = sum(map(len, names)) > 40
    axes.set_xticks(positions, names, rotation=60 if is_long else 0, ha="right" if is_long else "center")
    if is_long:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")


def choose_width(names: Sequence[str]) -> float:
    """Return the width in inches of a figure with one bar per name."""
    return max(4.8, 1.6 + 0.34 * len(names))


def set_time_axis(axes: Axes, span: slice, iterates: bool = False) -> None:
    """Set limits, label and ticks of a time axis. `iterates` adds room for the iterate after the last iteration."""
    axes.set_xlim(span.start - 0.5, span.stop - 0.5 + iterates)
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def choose_limit(values: NDArray[Any]) -> float:
    """Return the 99th percentile of the non-zero absolute values, or 1 if all values are 0."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.percentile(sizes, CLIP)) if sizes.size else 1.0


def make_scale(values: NDArray[Any]) -> Normalize:
    """Return a color scale symmetric about 0 that ends at the 99th percentile of the non-zero absolute values."""
    limit = choose_limit(values)
    return Normalize(-limit, limit)
