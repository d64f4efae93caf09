"""The residual of each iteration, for one or more allocations.     [arXiv 1909.01440, table S1]"""

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
    against: Sequence[str] = (),
) -> Figure:
    """Plot the residual of each iteration (top) and the cumulative residual (bottom) of one or more allocations.

    The residual is the difference between the sum of the LCA and the change in the loss.

    Args:
        runs: A run (a path or a ``Run``), or a result of ``lca.analysis.loss_curve``. To compare several allocations,
            pass a mapping from labels to results.
        look: Title, colors, style and iterations to show.
        name: Name of the allocation.
        against: Names of other allocations of the same run to compare with. By default, all complete allocations over
            the same examples.

    Returns:
        The matplotlib figure, which ``lca.figures.save`` can write.

    Raises:
        UsageError: ``runs`` is neither a single run nor a result of this analysis.

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
    """Return the names of all complete allocations over the same examples as allocation `name`."""
    others = [run.allocation(other) for other in run.allocations]
    examples = _get_examples(run, name)
    return [other.name for other in others if other.complete and _get_examples(run, other.name) == examples]


def _get_examples(run: Run, name: str) -> tuple[str, int]:
    attributes = run.allocation(name).attributes
    return attributes["split"], attributes["examples"]


def _draw(curves: Mapping[str, LossCurve], look: Look) -> Figure:
    first = next(iter(curves.values()))
    span, unit = look.choose_iterations(len(first.allocated)), escape_text(first.unit)
    x = np.arange(span.start, span.stop)
    with look.figure(7.2, 4.8) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for i, (name, curve) in enumerate(curves.items()):
            color = look.palette.others[i % len(look.palette.others)]
            accumulated = np.where(np.isnan(curve.residual), np.nan, np.nancumsum(curve.residual))
            top.plot(x, _measure(curve.residual)[span], ".", color=color, markersize=3, label=escape_text(name))
            draw_line(bottom, x, _measure(accumulated)[span], color=color)
        top.axhline(first.tolerance, color="#999999", linewidth=0.8, linestyle=":")
        top.set_ylabel(f"|residual| ({unit})\ndotted: tolerance")
        bottom.set_ylabel(f"|cumulative residual|\n({unit})")
        if any(np.isfinite(_measure(curve.residual[span])).any() for curve in curves.values()):
            for axes in (top, bottom):
                axes.set_yscale("log")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=3)
        set_title(top, look.title)
        set_time_axis(bottom, span)
        tidy(top, bottom)
    return figure


def _measure(values: Floats) -> Floats:
    """Return absolute values, with 0 replaced by NaN for a logarithmic axis."""
    return np.where(values == 0, np.nan, np.abs(values))
