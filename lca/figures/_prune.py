"""Loss and accuracy of what pruning leaves, by LCA, by magnitude and at random."""

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
from lca.figures.axes import set_title, tidy
from lca.figures.style import DEFAULT, Look
from lca.store.run import Run

LINES = ("-", "--", ":")  # by split


def prune(
    runs: Runs[Pruned],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    unconverged: bool = False,
    evaluate: Evaluate | None = None,
) -> Figure:
    """Draw the loss, and the accuracy if it is known, of what pruning leaves: a line for each criterion and split.

    Args:
        runs: A path, a Run, or a sequence of these; or results of `lca.analysis.prune`.
        look: Title, colours and style.
        name: Name of the allocation.
        unconverged: Whether iterations that did not converge count.
        evaluate: What measures the loss, as `lca.analysis.prune` takes it, such as `lca.Evaluator(problem)`; needed if
            runs are given.

    Returns:
        The figure, which `lca.figures.save` writes.

    Raises:
        UsageError: `runs` is something else, or `evaluate` is missing.

    Example:
        >>> lca.figures.prune("run.zarr", evaluate=lca.Evaluator(lca.load("mnist-fc")))
    """
    question = partial(_ask_prune, evaluate=evaluate)
    results, look = ask(question, Pruned, runs, look, name=name, unconverged=unconverged)
    first = results[0]
    has_accuracy = all(np.isfinite(values).all() for values in first.accuracy.values())
    with look.figure(7.2, 3.4) as figure:
        panels = figure.subplots(1, 2 if has_accuracy else 1, squeeze=False)[0]
        _draw_measure(panels[0], results, "loss", 1, look)
        panels[0].set_ylabel("loss (nats)")
        if has_accuracy:
            _draw_measure(panels[1], results, "accuracy", 100, look)
            panels[1].set_ylabel("right (%)")
            panels[1].set_ylim(0, 100)
        for axes in panels:
            axes.set_xlabel("weights set to 0 (%)")
        panels[0].legend(frameon=False, fontsize="small")
        set_title(panels[0], look.title)
        tidy(*panels)
    return figure


def _ask_prune(runs: Sequence[Run], *, evaluate: Evaluate | None, name: str, unconverged: bool) -> Sequence[Pruned]:
    if evaluate is None:
        remedy = ("Pass ", Argument("evaluate"), ", such as lca.Evaluator(problem), or results of lca.analysis.prune.")
        raise UsageError("pruned runs are evaluated with their model, which was not given", remedy=remedy)
    return analysis.prune(runs, evaluate, name=name, unconverged=unconverged)


def _draw_measure(axes: Axes, results: Sequence[Pruned], field: str, scale: float, look: Look) -> None:
    """A line for each criterion and split, with a band of the standard deviation over several runs."""
    first = results[0]
    parts = 100 * first.pruned
    for split, style in zip(first.loss, LINES, strict=False):
        for i, criterion in enumerate(first.criteria):
            colour = look.colours.others[i]
            mean, deviation = mean_and_deviation([scale * getattr(result, field)[split][i] for result in results])
            axes.plot(parts, mean, style, color=colour, marker="o", markersize=3, label=f"{criterion}, {split}")
            if len(results) > 1:
                axes.fill_between(parts, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
