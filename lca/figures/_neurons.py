"""The LCA of each neuron over time.     [arXiv 1909.01440, figure S2]"""

import numpy as np
from matplotlib.figure import Figure

from lca.analysis._neurons import Neurons
from lca.figures.style import DEFAULT, INK, Floats, Look, head, plain, scale_of, time_axis

MAX_COLUMNS = 1_000  # of the picture; more time than that is averaged
MAX_NEURONS = 2_000


def neurons(result: Neurons, look: Look = DEFAULT) -> Figure:
    """result: of lca.analysis.neurons. A row for each neuron, by layer, white at 0."""
    layers = list(dict.fromkeys(result.units.layer))
    shown = [layers[i] for i in look.chosen(layers)]
    rows = [i for i, layer in enumerate(result.units.layer) if layer in shown]
    span = look.span(int(result.edges[-1]))
    bins = (result.edges[:-1] < span.stop) & (result.edges[1:] > span.start)
    n_counted = np.add.reduceat(result.iterations.counted, result.edges[:-1], dtype=np.int64)
    lca = result.lca[rows][:, bins] / np.where(n_counted > 0, n_counted, 1)[bins]
    step, group = -(-lca.shape[1] // MAX_COLUMNS), -(-len(rows) // MAX_NEURONS)
    picture = np.ma.masked_invalid(_mean_over(_mean_over(lca, step, 1), group, 0))
    with look.figure(7.2, min(2 + len(rows) / 40, 7)) as figure:
        axes = figure.subplots()
        extent = (span.start - 0.5, span.stop - 0.5, len(rows) - 0.5, -0.5)
        colours = axes.imshow(
            picture,
            cmap=look.colours.map,
            norm=scale_of(np.asarray(picture.filled(np.nan))),
            aspect="auto",
            interpolation="nearest",
            extent=extent,
        )
        figure.colorbar(colours, extend="both", label="LCA in an iteration (nats)", fraction=0.05)
        bounds = [next(i for i, row in enumerate(rows) if result.units.layer[row] == layer) for layer in shown]
        for bound in bounds[1:]:
            axes.axhline(bound - 0.5, color=INK, linewidth=0.6)
        middles = [(a + b - 1) / 2 for a, b in zip(bounds, [*bounds[1:], len(rows)], strict=True)]
        axes.set_yticks(middles, [plain(layer) for layer in shown])
        axes.tick_params(axis="y", length=0)
        head(axes, look.title)
        time_axis(axes, span)
    return figure


def _mean_over(values: Floats, n: int, axis: int) -> Floats:
    """The means of every n along an axis, over what is not NaN."""
    if n == 1:
        return values
    starts = np.arange(0, values.shape[axis], n)
    there = np.add.reduceat(np.isfinite(values), starts, axis=axis, dtype=int)
    sums = np.add.reduceat(np.nan_to_num(values), starts, axis=axis)
    return np.asarray(np.divide(sums, there, out=np.full(sums.shape, np.nan), where=there > 0))
