"""The agreement between allocations over subsets of the examples and the allocation over all of them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Subset
from lca.figures.asking import Runs, ask
from lca.figures.axes import set_title, tidy
from lca.figures.style import DEFAULT, Look

PANELS = {  # label of each panel -> field of analysis.Agreement, and the factor that converts it to the unit shown
    "correlation\nof the LCA": ("correlation", 1),
    "LCA with the\nsame sign (%)": ("same_sign", 100),
    "error of layer\ntotals (%)": ("layer_error", 100),
    "error of helping\n(% points)": ("helping_error", 1),
}


def subset(
    runs: Runs[Subset],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    against: Sequence[str] = (),
) -> Figure:
    """Plot how well allocations over subsets of the examples agree with the allocation over all of them.

    Four measures of agreement are plotted against the size of the subset, with one line per run.

    Args:
        runs: One or more runs (paths or ``Run`` objects), or results of ``lca.analysis.subset``.
        look: Title, colors and style.
        name: Name of the allocation over all examples.
        against: Names of the allocations over subsets. By default, all such allocations of the same split.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis.

    Example:
        >>> lca.figures.subset("run.zarr")
    """
    results, look = ask(analysis.subset, Subset, runs, look, name=name, against=against)
    sizes = sorted({agreement.examples for result in results for agreement in result.agreements.values()})
    with look.figure(7.2, 4.6) as figure:
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for axes, (label, (field, scale)) in zip(panels, PANELS.items(), strict=True):
            for result in results:
                agreements = list(result.agreements.values())
                x = [agreement.examples for agreement in agreements]
                y = [scale * getattr(agreement, field) for agreement in agreements]
                axes.plot(x, y, "o-", color=look.palette.others[0], markersize=4)
            axes.axvline(results[0].n_examples, color="#999999", linewidth=0.8, linestyle=":")
            axes.set_xscale("log")
            axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
            axes.minorticks_off()
            axes.set_ylabel(label)
        panels[0].set_ylim(top=1.02)
        panels[3].axhline(0, color="#999999", linewidth=0.8)
        for axes in panels[2:]:
            axes.set_xlabel("examples (dotted line: all)")
        set_title(panels[0], look.title)
        tidy(*np.asarray(panels))
    return figure
