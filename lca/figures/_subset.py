"""How well allocations over a part of the examples agree with the one over all."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Subset
from lca.figures.asking import Runs, ask
from lca.figures.axes import set_title, tidy
from lca.figures.style import DEFAULT, Look

PANELS = {  # by label: of analysis.Agreement, and the factor to its unit
    "correlation of A": ("correlation", 1),
    "same sign (%)": ("same_sign", 100),
    "layers off by (%)": ("layer_error", 100),
    "helping off by (points)": ("helping_error", 1),
}


def subset(
    runs: Runs[Subset],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    unconverged: bool = False,
    against: Sequence[str] = (),
) -> Figure:
    """Draw how well allocations over a part of the examples agree with the one over all, a line for each run.

    Args:
        runs: A path, a Run, or a sequence of these; or results of `lca.analysis.subset`.
        look: Title, colours and style.
        name: Name of the allocation over all examples.
        unconverged: Whether iterations that did not converge count.
        against: Names of the allocations over a part of the examples; by default all of the same split.

    Returns:
        The figure, which `lca.figures.save` writes.

    Raises:
        UsageError: `runs` is something else.

    Example:
        >>> lca.figures.subset("run.zarr")
    """
    results, look = ask(analysis.subset, Subset, runs, look, name=name, unconverged=unconverged, against=against)
    with look.figure(7.2, 4.6) as figure:
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for axes, (label, (field, scale)) in zip(panels, PANELS.items(), strict=True):
            for result in results:
                agreements = list(result.agreements.values())
                x = [agreement.examples for agreement in agreements]
                y = [scale * getattr(agreement, field) for agreement in agreements]
                axes.plot(x, y, "o-", color=look.colours.others[0], markersize=4)
            axes.axvline(results[0].n_examples, color="#999999", linewidth=0.8, linestyle=":")
            axes.set_xscale("log")
            axes.set_ylabel(label)
        panels[0].set_ylim(top=1.02)
        panels[3].axhline(0, color="#999999", linewidth=0.8)
        for axes in panels[2:]:
            axes.set_xlabel("examples (dotted: all)")
        set_title(panels[0], look.title)
        tidy(*np.asarray(panels))
    return figure
