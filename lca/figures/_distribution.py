"""The distribution of LCA, zeros apart, with a Gaussian and Weibulls.     [arXiv 1909.01440, figures 3b, S10]"""

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from lca.analysis._tails import Magnitudes, Tails
from lca.errors import LCAError
from lca.figures.style import CLIP, DEFAULT, INK, Floats, Look, head, tidy

N_BINS = 40  # on each side


def distribution(result: Tails, look: Look = DEFAULT) -> Figure:
    """result: of lca.analysis.tails. Densities on a logarithmic scale, without the largest 1 % of |A|."""
    both, colours = result.both, look.colours
    if not both.n:
        raise LCAError("the LCA of every parameter is 0 in every iteration: there is no distribution to draw.")
    limit = both.percentile(CLIP)
    edges = np.linspace(0, limit, N_BINS + 1)
    width = edges[1]
    with look.figure(6.4, 3.8) as figure:
        axes = figure.subplots()
        sides = (
            (-1, result.helped, colours.help, "helped", result.weibull_helped),
            (1, result.hurt, colours.hurt, "hurt", result.weibull_hurt),
        )
        x = np.linspace(width / 4, limit, 400)
        highest = lowest = 0.0
        for sign, part, colour, label, k in sides:
            density = _density(part, edges, both.n)
            axes.stairs(density[::sign], np.sort(sign * edges), fill=True, color=colour, alpha=0.75, label=label)
            highest, lowest = (
                max(highest, density.max()),
                min(lowest or np.inf, density[density > 0].min(initial=np.inf)),
            )
            if np.isfinite(k):
                scale = (part.counts @ part.values**k / part.n) ** (1 / k)
                fitted = part.n / both.n * stats.weibull_min.pdf(x, k, scale=scale)
                name = "Weibull, k = " + ", ".join(f"{shape:.2f}" for *_, shape in sides) if sign < 0 else None
                axes.plot(sign * x, fitted, color=INK, label=name)
        gaussian = stats.norm.pdf(x, scale=result.deviation)
        axes.plot(
            np.append(-x[::-1], x), np.append(gaussian[::-1], gaussian), color=INK, linestyle=":", label="Gaussian"
        )
        axes.set_yscale("log")
        if highest:
            axes.set_ylim(min(lowest, gaussian[0]) / 3, 3 * highest)
        axes.set_xlim(-limit, limit)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2), useMathText=True)
        axes.set_xlabel("LCA of a parameter in an iteration (nats); the largest 1 % lie beyond")
        axes.set_ylabel("density (1/nats)")
        axes.legend(frameon=False, fontsize="small")
        head(axes, look.title)
        tidy(axes)
    return figure


def _density(part: Magnitudes, edges: Floats, n: int) -> Floats:
    return part.histogram(edges) / (n * np.diff(edges))
