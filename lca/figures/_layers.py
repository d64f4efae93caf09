"""The total LCA of each layer, for one or more groups of runs.     [arXiv 1909.01440, figures 4, S11 to S14]"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Layers
from lca.analysis.statistics import mean_and_deviation
from lca.errors import UsageError
from lca.figures.asking import Runs, add_heading, ask, list_given, open_given
from lca.figures.axes import SIGNS, choose_width, escape_text, name_layers, set_title, tidy
from lca.figures.style import DEFAULT, INK, Look

WIDTH = 0.78  # total width of the bars of one layer; neighboring layers are 1 apart

Groups = Mapping[str, Runs[Layers]] | Sequence[Sequence[Any]]


def layers(
    runs: Runs[Layers] | Groups,
    look: Look = DEFAULT,
    *,
    name: str = "train",
    labels: Sequence[str] = (),
) -> Figure:
    """Plot the total LCA of each layer as a bar. Below 0 the layer helps, above 0 it hurts.

    For several runs, the bars show means and the error bars show standard deviations. The color of a bar shows its
    sign, or its group if several groups of runs are compared.

    Args:
        runs: One or more runs (paths or ``Run`` objects), or results of ``lca.analysis.layers``. To compare groups of
            runs, pass a mapping from labels to groups, or a sequence of groups.
        look: Title, colors, style and layers to show.
        name: Name of the allocation.
        labels: Labels of the groups if ``runs`` is a sequence of groups. The defaults are A, B and so on.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis, or the numbers of labels and groups
            differ.

    Example:
        >>> lca.figures.layers({"regular": ["a-0.zarr", "a-1.zarr"], "frozen": ["b-0.zarr", "b-1.zarr"]})
    """
    groups = _name_groups(runs, labels)
    given = [each for group in groups.values() for each in group]
    if not given or not all(isinstance(each, Layers) for each in given):
        opened = open_given(given, "lca.analysis.Layers")
        look, remaining = add_heading(look, opened, name), iter(opened)
        groups = {label: [next(remaining) for _ in group] for label, group in groups.items()}
    results = {label: ask(analysis.layers, Layers, group, look, name=name)[0] for label, group in groups.items()}
    return _draw(results, look)


def _name_groups(runs: Any, labels: Sequence[str]) -> dict[str, list[Any]]:
    """Return a mapping from the label of each group to its runs or results."""
    if isinstance(runs, Mapping):
        return {str(label): list_given(group) for label, group in runs.items()}
    given = list_given(runs)
    is_grouped = bool(given) and all(isinstance(each, Sequence) and not isinstance(each, str | bytes) for each in given)
    groups = [list(group) for group in given] if is_grouped else [given]
    if labels and len(labels) != len(groups):
        raise UsageError("labels", expected=f"{len(groups)}, one per group of runs", found=str(len(labels)))
    return dict(zip(labels or [chr(ord("A") + i) for i in range(len(groups))], groups, strict=True))


def _draw(groups: Mapping[str, Sequence[Layers]], look: Look) -> Figure:
    first = next(iter(groups.values()))[0]
    chosen = look.choose_layers(first.layers)
    names = [first.layers[i] for i in chosen]
    positions, width = np.arange(len(names)), WIDTH / len(groups)
    with look.figure(choose_width(names), 3.6) as figure:
        axes = figure.subplots()
        for i, (label, results) in enumerate(groups.items()):
            mean, deviation = mean_and_deviation([result.total[chosen] for result in results])
            at = positions + (i - (len(groups) - 1) / 2) * width
            others = look.palette.others
            color = look.palette.by_sign(mean) if len(groups) == 1 else others[i % len(others)]
            axes.bar(at, mean, width, color=color, label=escape_text(f"{label} (n = {len(results)})"))
            if len(results) > 1:
                axes.errorbar(at, mean, deviation, fmt="none", ecolor=INK, capsize=2, linewidth=1)
        axes.axhline(0, color=INK, linewidth=0.8)
        name_layers(axes, names)
        axes.set_ylabel(f"total LCA ({escape_text(first.unit)})\n{SIGNS}")
        if len(groups) > 1:
            figure.legend(loc="outside upper left", frameon=False)  # inside the axes, the legend could cover bars
        set_title(axes, look.title)
        tidy(axes)
        axes.spines["bottom"].set_visible(False)
    return figure
