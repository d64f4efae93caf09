"""The distribution of LCA, zeros apart, with a Gaussian and Weibulls.     [arXiv 1909.01440, figures 3b, S10]"""

import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Tails
from lca.analysis.magnitudes import Magnitudes
from lca.errors import LCAError
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import CLIP, Floats, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look

N_BINS = 40  # on each side


def distribution(runs: Runs[Tails], look: Look = DEFAULT, *, name: str = "train", unconverged: bool = False) -> Figure:
    """Draw the density of the non-zero LCA on a logarithmic scale, without the largest 1 % of |A|.

    Args:
        runs: A path or a Run; or a result of `lca.analysis.tails`.
        look: Title, colours and style.
        name: Name of the allocation.
        unconverged: Whether iterations that did not converge count.

    Returns:
        The figure, which `lca.figures.save` writes.

    Raises:
        UsageError: `runs` is something else, or several runs.
        LCAError: Every LCA is 0.

    Example:
        >>> lca.figures.distribution("run.zarr")
    """
    result, look = ask_one(analysis.tails, Tails, runs, look, name=name, unconverged=unconverged)
    both = result.both
    if not both.n:
        raise LCAError("The LCA of every parameter is 0 in every iteration, so there is no distribution to draw.")
    limit = both.percentile(CLIP)
    edges = np.linspace(0, limit, N_BINS + 1)
    x = np.linspace(edges[1] / 4, limit, 400)
    with look.figure(6.4, 3.8) as figure:
        axes = figure.subplots()
        shapes = f"Weibull, k = {result.weibull_helped:.2f}, {result.weibull_hurt:.2f}"
        helped = _draw_bars(axes, result.helped, -1, edges, both.n, color=look.colours.help, label="helped")
        _draw_weibull(axes, result.helped, -x, result.weibull_helped, both.n, shapes)
        hurt = _draw_bars(axes, result.hurt, 1, edges, both.n, color=look.colours.hurt, label="hurt")
        _draw_weibull(axes, result.hurt, x, result.weibull_hurt, both.n)
        gaussian = scipy.stats.norm.pdf(x, scale=result.deviation)
        both_sides = np.append(-x[::-1], x), np.append(gaussian[::-1], gaussian)
        axes.plot(*both_sides, color=INK, linestyle=":", label="Gaussian")
        axes.set_yscale("log")
        densities = np.append(helped, hurt)
        if densities.any():
            axes.set_ylim(min(densities[densities > 0].min(), gaussian[0]) / 3, 3 * densities.max())
        axes.set_xlim(-limit, limit)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2), useMathText=True)
        axes.set_xlabel("LCA of a parameter in an iteration (nats); the largest 1 % lie beyond")
        axes.set_ylabel("density (1/nats)")
        axes.legend(frameon=False, fontsize="small")
        set_title(axes, look.title)
        tidy(axes)
    return figure


def _draw_bars(axes: Axes, part: Magnitudes, sign: int, edges: Floats, n: int, *, color: str, label: str) -> Floats:
    """Draw the density of one side, and return it, (bin,). n: how many values there are on both sides."""
    density = part.histogram(edges) / (n * np.diff(edges))
    axes.stairs(density[::sign], np.sort(sign * edges), fill=True, color=color, alpha=0.75, label=label)
    return density


def _draw_weibull(axes: Axes, part: Magnitudes, x: Floats, k: float, n: int, label: str | None = None) -> None:
    """The Weibull distribution of shape k that was fitted to one side, where one could be."""
    if np.isfinite(k):
        scale = (part.counts @ part.values**k / part.n) ** (1 / k)
        fitted = part.n / n * scipy.stats.weibull_min.pdf(np.abs(x), k, scale=scale)
        axes.plot(x, fitted, color=INK, label=label)
