"""The LCA of each neuron over time.     [arXiv 1909.01440, figure S2]"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Neurons
from lca.analysis.bins import count_in_bins, make_edges, mean_in_bins
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import SIGNS, Floats, escape_text, make_scale, set_time_axis, set_title
from lca.figures.style import DEFAULT, INK, Look

MAX_COLUMNS = 1_000  # largest number of columns in the picture; longer runs are averaged
MAX_NEURONS = 2_000  # largest number of rows in the picture; more neurons are averaged


def neurons(runs: Runs[Neurons], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot the LCA of each neuron over time, with one row per neuron, grouped by layer.

    White is 0. Neurons that help (LCA below 0) and neurons that hurt (above 0) have different colors.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.neurons``.
        look: Title, colors, style, layers and iterations to show.
        name: Name of the allocation.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis.

    Example:
        >>> lca.figures.neurons("run.zarr", lca.figures.Look(layers="fc1", iterations=(0, 200)))
    """
    result, look = ask_one(analysis.neurons, Neurons, runs, look, name=name)
    layers = list(dict.fromkeys(result.units.layer))
    shown = [layers[i] for i in look.choose_layers(layers)]
    rows = [i for i, layer in enumerate(result.units.layer) if layer in shown]
    span = look.choose_iterations(int(result.edges[-1]))
    picture = np.ma.masked_invalid(_average(result, rows, span))
    with look.figure(7.2, min(max(3.2, 2 + len(rows) / 40), 7)) as figure:
        axes = figure.subplots()
        colors = axes.imshow(
            picture,
            cmap=look.palette.map,
            norm=make_scale(np.asarray(picture.filled(np.nan))),
            aspect="auto",
            interpolation="nearest",
            extent=(span.start - 0.5, span.stop - 0.5, len(rows) - 0.5, -0.5),
        )
        figure.colorbar(
            colors, extend="both", label=f"LCA per iteration ({escape_text(result.unit)})\n{SIGNS}", fraction=0.05
        )
        _divide_layers(axes, [result.units.layer[row] for row in rows])
        set_title(axes, look.title)
        set_time_axis(axes, span)
    return figure


def _average(result: Neurons, rows: list[int], span: slice) -> Floats:
    """Return the mean LCA per iteration of the neurons in `rows`, averaged to the resolution of the picture.

    The result has shape (row, column), at most MAX_NEURONS by MAX_COLUMNS.
    """
    bins = (result.edges[:-1] < span.stop) & (result.edges[1:] > span.start)
    n_counted = count_in_bins(result.iterations.mask, result.edges)
    lca = result.lca[rows][:, bins] / np.where(n_counted > 0, n_counted, 1)[bins]
    columns = mean_in_bins(lca, make_edges(lca.shape[1], MAX_COLUMNS), axis=1)
    return mean_in_bins(columns, make_edges(len(rows), MAX_NEURONS), axis=0)


def _divide_layers(axes: Axes, layers: list[str]) -> None:
    """Draw lines between the layers and label them. `layers` contains the layer of each row."""
    shown = list(dict.fromkeys(layers))
    bounds = [layers.index(layer) for layer in shown]
    for bound in bounds[1:]:
        axes.axhline(bound - 0.5, color=INK, linewidth=0.6)
    middles = [(a + b - 1) / 2 for a, b in zip(bounds, [*bounds[1:], len(layers)], strict=True)]
    axes.set_yticks(middles, [escape_text(layer) for layer in shown])
    axes.tick_params(axis="y", length=0)
