"""How often weight updates, gradients and LCA change sign, by layer.     [arXiv 1909.01440, figure S7]"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Oscillation
from lca.analysis.statistics import mean_and_deviation
from lca.figures.asking import Runs, ask
from lca.figures.axes import Floats, choose_width, name_layers, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look
from lca.store.run import Run

CHANGES = {"weight turns": "turns", "gradient crosses 0": "crossings", "LCA turns": "of_lca"}


def oscillation(runs: Runs[Oscillation], look: Look = DEFAULT, *, name: str = "train") -> Figure:
    """Plot the mean number of iterations between two changes of direction, for all parameters and for each layer.

    A weight turns when its update changes sign, a gradient crosses 0 when it changes sign, and the LCA of a parameter
    turns when it changes between helping and hurting. For several runs, the bars show means and the error bars show
    standard deviations.

    Args:
        runs: One or more runs (paths or ``Run`` objects), or results of ``lca.analysis.oscillation``. Sign
            changes of the gradient are drawn only if they are known for all runs.
        look: Title, colors, style and layers to show.
        name: Name of the allocation.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis.

    Example:
        >>> lca.figures.oscillation("run.zarr")
    """
    results, look = ask(_ask_oscillation, Oscillation, runs, look, name=name)
    layers = results[0].table.layers
    chosen = look.choose_layers(layers)
    names = ["all", *(layers[i] for i in chosen)]
    bars = {
        label: _compute_periods(results, change)[:, [0, *(1 + i for i in chosen)]]
        for label, change in CHANGES.items()
        if all(getattr(result, change) is not None for result in results)
    }
    width = 0.8 / len(bars)
    with look.figure(choose_width(names) + 0.5, 3.4) as figure:
        axes = figure.subplots()
        for i, (label, values) in enumerate(bars.items()):
            mean, deviation = mean_and_deviation(values)
            at = np.arange(len(names)) + (i - (len(bars) - 1) / 2) * width
            axes.bar(at, mean, width, color=look.palette.others[i], label=label)
            if len(results) > 1:
                axes.errorbar(at, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=0.8)
        name_layers(axes, names)
        axes.set_ylabel("iterations per change")
        figure.legend(
            loc="outside lower center", ncols=3, frameon=False, fontsize="small", handlelength=1, columnspacing=1
        )
        set_title(axes, look.title)
        tidy(axes)
    return figure


def _ask_oscillation(runs: Sequence[Run], *, name: str) -> Sequence[Oscillation]:
    """Analyze the runs, including the sign changes of the gradient if all allocations store its signs."""
    crossings = all("gradient_sign" in run.allocation(name).arrays for run in runs)
    return analysis.oscillation(runs, name=name, crossings=crossings)


def _compute_periods(results: Sequence[Oscillation], change: str) -> Floats:
    """Return the iterations per change, shape (run, 1 + layer), with all parameters in the first column.

    Layers without any change are NaN.
    """
    periods = np.array([result.iterations_per(getattr(result, change)) for result in results])
    return np.where(np.isfinite(periods), periods, np.nan)
