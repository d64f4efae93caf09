"""The distribution of non-zero LCA, with fitted distributions.     [arXiv 1909.01440, figures 3b, S10]"""

import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Tails
from lca.analysis.magnitudes import Magnitudes
from lca.errors import LCAError
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import CLIP, SIGNS, Floats, escape_text, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look

N_BINS = 40  # bars on each side of 0


def distribution(runs: Runs[Tails], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot the density of all non-zero LCA values on a logarithmic scale.

    Values below 0 (helping) and above 0 (hurting) have different colors. The lines are a Gaussian with the same
    standard deviation and a Weibull distribution fitted to each side. The largest 1 % of the absolute values are cut
    off.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.tails``.
        look: Title, colors and style.
        name: Name of the allocation.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis.
        LCAError: All LCA values are 0.

    Example:
        >>> lca.figures.distribution("run.zarr")
    """
    result, look = ask_one(analysis.tails, Tails, runs, look, name=name)
    both, unit = result.both, escape_text(result.unit)
    if not both.n:
        raise LCAError("The LCA of every parameter is 0 in every iteration, so there is no distribution to draw.")
    limit = both.percentile(CLIP)
    edges = np.linspace(0, limit, N_BINS + 1)
    x = np.linspace(edges[1] / 4, limit, 400)
    with look.figure(6.4, 4.4) as figure:
        axes = figure.subplots()
        shapes = f"Weibull, k = {result.weibull.helped:.2f}, {result.weibull.hurt:.2f}"
        helped = _draw_bars(axes, result.helped, -1, edges, both.n, color=look.palette.help, label="helped")
        _draw_weibull(axes, result.helped, -x, result.weibull.helped, both.n, shapes)
        hurt = _draw_bars(axes, result.hurt, 1, edges, both.n, color=look.palette.hurt, label="hurt")
        _draw_weibull(axes, result.hurt, x, result.weibull.hurt, both.n)
        gaussian = scipy.stats.norm.pdf(x, scale=result.deviation)
        both_sides = np.append(-x[::-1], x), np.append(gaussian[::-1], gaussian)
        axes.plot(*both_sides, color=INK, linestyle=":", label="Gaussian")
        axes.set_yscale("log")
        densities = np.append(helped, hurt)
        if densities.any():
            axes.set_ylim(min(densities[densities > 0].min(), gaussian[0]) / 3, 3 * densities.max())
        axes.set_xlim(-limit, limit)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2), useMathText=True)
        axes.set_xlabel(f"LCA of a parameter in one iteration ({unit})\n{SIGNS} (largest 1 % cut off)")
        axes.set_ylabel(f"density (1/{unit})")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
        set_title(axes, look.title)
        tidy(axes)
    return figure


def _draw_bars(axes: Axes, part: Magnitudes, sign: int, edges: Floats, n: int, *, color: str, label: str) -> Floats:
    """Draw the density of one side and return it, shape (bin,). `n` is the number of values on both sides."""
    density = part.histogram(edges) / (n * np.diff(edges))
    axes.stairs(density[::sign], np.sort(sign * edges), fill=True, color=color, alpha=0.75, label=label)
    return density


def _draw_weibull(axes: Axes, part: Magnitudes, x: Floats, k: float, n: int, label: str | None = None) -> None:
    """Draw the Weibull distribution with shape k that was fitted to one side. Nothing is drawn if k is NaN."""
    if np.isfinite(k):
        scale = (part.counts @ part.values**k / part.n) ** (1 / k)
        fitted = part.n / n * scipy.stats.weibull_min.pdf(np.abs(x), k, scale=scale)
        axes.plot(x, fitted, color=INK, label=label)
