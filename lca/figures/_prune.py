"""Loss and accuracy after pruning by LCA, by magnitude and at random."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import Pruned
from lca.analysis._prune import Evaluate
from lca.analysis.statistics import mean_and_deviation
from lca.errors import Argument, UsageError
from lca.figures.asking import Runs, ask
from lca.figures.axes import escape_text, set_title, tidy
from lca.figures.style import DEFAULT, Look
from lca.store.run import Run

LINES = ("-", "--", ":")  # line styles of the splits


def prune(
    runs: Runs[Pruned],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    evaluate: Evaluate | None = None,
) -> Figure:
    """Plot loss (left) and accuracy (right) against the pruned percentage of the weights.

    Each criterion has a color, and each split has a line style. The accuracy is left out if the problem does not define
    it. For several runs, the lines show means and the bands show standard deviations.

    Args:
        runs: One or more runs (paths or ``Run`` objects), or results of ``lca.analysis.prune``.
        look: Title, colors and style.
        name: Name of the allocation.
        evaluate: Function that evaluates a model, as in ``lca.analysis.prune``, such as ``lca.Evaluator(problem)``.
            Required unless ``runs`` contains results.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` contains anything but runs or results of this analysis, or ``evaluate`` is missing.

    Example:
        >>> lca.figures.prune("run.zarr", evaluate=lca.Evaluator(lca.load("mnist-fc")))
    """
    question = partial(_ask_prune, evaluate=evaluate)
    results, look = ask(question, Pruned, runs, look, name=name)
    first = results[0]
    has_accuracy = all(np.isfinite(values).all() for values in first.accuracy.values())
    with look.figure(7.2, 4.2) as figure:
        panels = figure.subplots(1, 2 if has_accuracy else 1, squeeze=False)[0]
        _draw_measure(panels[0], results, "loss", 1, look)
        panels[0].set_ylabel(f"loss ({escape_text(first.unit)})")
        if has_accuracy:
            _draw_measure(panels[1], results, "accuracy", 100, look)
            panels[1].set_ylabel("accuracy (%)")
            panels[1].set_ylim(0, 100)
        for axes in panels:
            axes.set_xlabel("weights set to 0 (%)")
        legend = panels[0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside lower center", ncols=len(first.loss), frameon=False, fontsize="small")
        set_title(panels[0], look.title)
        tidy(*panels)
    return figure


def _ask_prune(runs: Sequence[Run], *, evaluate: Evaluate | None, name: str) -> Sequence[Pruned]:
    if evaluate is None:
        remedy = ("Pass ", Argument("evaluate"), ", such as lca.Evaluator(problem), or results of lca.analysis.prune.")
        raise UsageError("this figure needs a function that evaluates the pruned models", remedy=remedy)
    return analysis.prune(runs, evaluate, name=name)


def _draw_measure(axes: Axes, results: Sequence[Pruned], field: str, scale: float, look: Look) -> None:
    """Draw a line for each criterion and split, with a band for the standard deviation over several runs."""
    first = results[0]
    parts = 100 * first.pruned
    for split, style in zip(first.loss, LINES, strict=False):
        for i, criterion in enumerate(first.criteria):
            color = look.palette.others[i]
            mean, deviation = mean_and_deviation([scale * getattr(result, field)[split][i] for result in results])
            axes.plot(parts, mean, style, color=color, marker="o", markersize=3, label=f"{criterion}, {split}")
            if len(results) > 1:
                axes.fill_between(parts, mean - deviation, mean + deviation, color=color, alpha=0.15, linewidth=0)
