"""The residual of each iteration, by allocation.     [arXiv 1909.01440, table S1]"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lca import analysis
from lca.analysis import LossCurve
from lca.figures.asking import Runs, list_given, open_one, require_one, require_results
from lca.figures.axes import Floats, draw_line, escape_text, set_time_axis, set_title, tidy
from lca.figures.style import DEFAULT, Look
from lca.store.run import Run


def error(
    runs: Runs[LossCurve] | Mapping[str, LossCurve],
    look: Look = DEFAULT,
    *,
    name: str = "train",
    unconverged: bool = False,
    against: Sequence[str] = (),
) -> Figure:
    """Draw the residual of each iteration, and below what has accumulated, of one allocation of a run or several.

    Args:
        runs: A path or a Run; or a result of `lca.analysis.loss_curve`, or several by labels of their allocations.
        look: Title, colours and style, and the iterations that are shown.
        name: Name of the allocation.
        unconverged: Has no effect: iterations that did not converge are always drawn.
        against: Names of other allocations of the same run; by default all complete ones over the same examples.

    Returns:
        The figure, which `lca.figures.save` writes.

    Raises:
        UsageError: `runs` is something else, or several runs.

    Example:
        >>> lca.figures.error("run.zarr", against=["first-order"])
    """
    if isinstance(runs, Mapping):
        require_results(runs, LossCurve)
        return _draw(runs, look)
    given = list_given(runs)
    require_one(given)
    if isinstance(given[0], LossCurve):
        return _draw({name: given[0]}, look)
    run, look = open_one(given, look, name)
    names = dict.fromkeys([name, *(against or _find_alike(run, name))])
    rules = {each: f"{each}, {run.allocation(each).attributes['rule']}" for each in names}
    return _draw({rules[each]: analysis.loss_curve(run, name=each) for each in names}, look)


def _find_alike(run: Run, name: str) -> list[str]:
    """The complete allocations over the same examples."""
    others = [run.allocation(other) for other in run.allocations]
    wanted = _get_examples(run, name)
    return [other.name for other in others if other.complete and _get_examples(run, other.name) == wanted]


def _get_examples(run: Run, name: str) -> tuple[str, int]:
    attributes = run.allocation(name).attributes
    return attributes["split"], attributes["examples"]


def _draw(curves: Mapping[str, LossCurve], look: Look) -> Figure:
    first = next(iter(curves.values()))
    span = look.choose_iterations(len(first.allocated))
    x = np.arange(span.start, span.stop)
    with look.figure(7.2, 4.8) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for i, (name, curve) in enumerate(curves.items()):
            colour = look.colours.others[i % len(look.colours.others)]
            accumulated = np.where(np.isnan(curve.residual), np.nan, np.nancumsum(curve.residual))
            top.plot(x, _measure(curve.residual)[span], ".", color=colour, markersize=3, label=escape_text(name))
            draw_line(bottom, x, _measure(accumulated)[span], color=colour)
        top.axhline(first.tolerance, color="#999999", linewidth=0.8, linestyle=":")
        top.set_ylabel("|residual| (nats)\ndotted: tolerance")
        bottom.set_ylabel("cumulative (nats)")
        if any(np.isfinite(_measure(curve.residual[span])).any() for curve in curves.values()):
            for axes in (top, bottom):
                axes.set_yscale("log")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=3)
        set_title(top, look.title)
        set_time_axis(bottom, span)
        tidy(top, bottom)
    return figure


def _measure(values: Floats) -> Floats:
    """The sizes that a logarithmic scale can show: NaN where a value is 0."""
    return np.where(values == 0, np.nan, np.abs(values))
