"""The LCA of each neuron over time.     [arXiv 1909.01440, figure S2]"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Neurons
from lca.analysis.bins import count_in_bins, make_edges, mean_in_bins
from lca.figures.asking import Runs, ask_one
from lca.figures.axes import Floats, escape_text, make_scale, set_time_axis, set_title
from lca.figures.style import DEFAULT, INK, Look

MAX_COLUMNS = 1_000  # of the picture; more time than that is averaged
MAX_NEURONS = 2_000


def neurons(runs: Runs[Neurons], look: Look = DEFAULT, *, name: str = "train", unconverged: bool = False) -> Figure:
    """Draw the LCA of each neuron over time: a row for each neuron, by layer, white at 0.

    Args:
        runs: A path or a Run; or a result of `lca.analysis.neurons`.
        look: Title, colours and style, and the layers and iterations that are shown.
        name: Name of the allocation.
        unconverged: Whether iterations that did not converge count.

    Returns:
        The figure, which `lca.figures.save` writes.

    Raises:
        UsageError: `runs` is something else, or several runs.

    Example:
        >>> lca.figures.neurons("run.zarr", lca.figures.Look(layers="fc1", iterations=(0, 200)))
    """
    result, look = ask_one(analysis.neurons, Neurons, runs, look, name=name, unconverged=unconverged)
    layers = list(dict.fromkeys(result.units.layer))
    shown = [layers[i] for i in look.choose_layers(layers)]
    rows = [i for i, layer in enumerate(result.units.layer) if layer in shown]
    span = look.choose_iterations(int(result.edges[-1]))
    picture = np.ma.masked_invalid(_average(result, rows, span))
    with look.figure(7.2, min(2 + len(rows) / 40, 7)) as figure:
        axes = figure.subplots()
        colours = axes.imshow(
            picture,
            cmap=look.colours.map,
            norm=make_scale(np.asarray(picture.filled(np.nan))),
            aspect="auto",
            interpolation="nearest",
            extent=(span.start - 0.5, span.stop - 0.5, len(rows) - 0.5, -0.5),
        )
        figure.colorbar(colours, extend="both", label="LCA in an iteration (nats)", fraction=0.05)
        _divide_layers(axes, [result.units.layer[row] for row in rows])
        set_title(axes, look.title)
        set_time_axis(axes, span)
    return figure


def _average(result: Neurons, rows: list[int], span: slice) -> Floats:
    """The mean LCA of these neurons per iteration, (neuron, column), with no more of either than the picture has."""
    bins = (result.edges[:-1] < span.stop) & (result.edges[1:] > span.start)
    n_counted = count_in_bins(result.iterations.counted, result.edges)
    lca = result.lca[rows][:, bins] / np.where(n_counted > 0, n_counted, 1)[bins]
    columns = mean_in_bins(lca, make_edges(lca.shape[1], MAX_COLUMNS), axis=1)
    return mean_in_bins(columns, make_edges(len(rows), MAX_NEURONS), axis=0)


def _divide_layers(axes: Axes, layers: list[str]) -> None:
    """Lines between layers and their names; layers: that of each row."""
    shown = list(dict.fromkeys(layers))
    bounds = [layers.index(layer) for layer in shown]
    for bound in bounds[1:]:
        axes.axhline(bound - 0.5, color=INK, linewidth=0.6)
    middles = [(a + b - 1) / 2 for a, b in zip(bounds, [*bounds[1:], len(layers)], strict=True)]
    axes.set_yticks(middles, [escape_text(layer) for layer in shown])
    axes.tick_params(axis="y", length=0)
