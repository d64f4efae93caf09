"""Does the LCA of a layer follow an option of the training?     [arXiv 1909.01440, section 4, figure 5]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy
from numpy.typing import NDArray

from lca.analysis._layers import layers
from lca.analysis.answer import Answer, Column, Table, format_p
from lca.analysis.iterations import Iterations
from lca.analysis.question import Result, RunLike, open_runs
from lca.errors import LCAError, UsageError
from lca.store.layer_options import LAYER_OPTIONS, LayerOptions
from lca.store.parameters import match_layers
from lca.store.run import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Trend(Result):
    """The total LCA of layers against an option, a point for each run, with the line of least squares.

    option: its name. x: (run,), its values. layers: their names. lca: (run, layer), in the loss's unit.
    slope, intercept: (layer,), in the loss's unit per unit of x, and at 0. r_squared: (layer,). p: (layer,), of the
    test that the slope is 0; for two runs neither means anything, and both are NaN. All four are NaN where a layer's
    LCA is the same in every run. iterations: of each run.
    """

    option: str
    x: Floats
    layers: list[str]
    lca: Floats
    slope: Floats
    intercept: Floats
    r_squared: Floats
    p: Floats
    iterations: list[Iterations]

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The LCA of each layer at each value of the option, and the line through them; a table for each trend."""

        def table(result: Self) -> Table:
            columns = {f"{value:g}": Column(result.lca[result.x == value], 4) for value in np.unique(result.x)}
            columns |= {
                "slope": Column.of(result.slope, 5),
                "R²": Column.of(result.r_squared, 3),
                "p (slope 0)": Column.of(result.p, text=format_p),
            }
            return Table("layer", result.layers, columns, f"LCA (nats) by {result.option}")

        arrays = {"x": results[0].x, "layers": results[0].layers, "lca": results[0].lca}
        iterations = [of_run for result in results for of_run in result.iterations]
        return Answer("trend", [table(result) for result in results], iterations, (), arrays)


def trend(
    runs: RunLike | Sequence[RunLike],
    option: str,
    *,
    layer: str = "*",
    delay: bool = False,
    name: str = "train",
    unconverged: bool = False,
) -> Trend:
    """Does the LCA of a layer follow an option of the training?     [arXiv 1909.01440, section 4, figure 5]

    Args:
        runs: Runs of the same model that differ in the option: paths, URLs or lca.Runs.
        option: An option of the training, such as "learning_rate", or of a layer in it, such as "last:momentum".
        layer: The layers to fit: a name, a glob, "first" or "last".
        delay: Whether to convert a momentum m to the delay m / (1 − m), the iterations over which it averages.
        name: The allocation to ask about.
        unconverged: Whether iterations that did not converge count too.

    Returns:
        The total LCA of each layer in each run, in the loss's unit (nats for cross-entropy), with the line of least
        squares through them.

    Raises:
        LCAError: If the runs are not of the same model, a run has no such allocation, or its options are unknown.
        UsageError: If the option is unknown, is no number, or is the same in every run.

    Example:
        >>> lca.analysis.trend(["momentum-0.zarr", "momentum-0.5.zarr"], "last:momentum", delay=True)
    """
    opened = open_runs(runs)
    x = np.array([read_option(run, option) for run in opened])
    if delay:
        if not ((x >= 0) & (x < 1)).all():
            found = ", ".join(f"{value:g}" for value in x)
            raise UsageError(option, expected="a momentum from 0 to below 1, to compute its delay", found=found)
        x = x / (1 - x)
    if len(np.unique(x)) < 2:
        raise UsageError(option, expected="runs that differ in it", found=f"{x[0]:g} in every run")
    names = opened[0].parameters.layers
    chosen = [n for n in names if n in (set(names) if layer == "*" else match_layers(layer, names))]
    results = [layers(run, name=name, unconverged=unconverged) for run in opened]
    lca = np.array([result.total for result in results])[:, [names.index(n) for n in chosen]]
    slope, intercept, r_squared, p = np.array([_fit_line(x, y) for y in lca.T], np.float64).T
    if len(opened) < 3:
        r_squared, p = np.full((2, len(chosen)), np.nan)
    label = f"delay of {option}" if delay else option
    return Trend(label, x, chosen, lca, slope, intercept, r_squared, p, [result.iterations for result in results])


def _fit_line(x: Floats, y: Floats) -> tuple[float, ...]:
    """x, y (run,) -> slope, intercept, R² and p; NaN where y is always the same."""
    if not np.ptp(y):
        return (float("nan"),) * 4
    line = scipy.stats.linregress(x, y)
    return line.slope, line.intercept, line.rvalue**2, line.pvalue


def read_option(run: Run, option: str) -> float:
    """The value of a training option in a run; "LAYER:NAME" is that of a layer, its own or else that of all."""
    train = run.attributes.get("train")
    if train is None:
        raise LCAError(
            f"{run.path} was recorded from a custom training loop, so its training options are unknown",
            remedy="Pass runs that lca trained.",
        )
    layer, _, name = option.rpartition(":")
    name = LAYER_OPTIONS.get(name, name)
    value = train.get(name)
    if layer:
        names = run.parameters.layers
        chosen = match_layers(layer, names)
        for rule in map(LayerOptions.parse, train.get("layers", [])):
            if chosen <= match_layers(rule.layers, names):
                value = rule.options.get(name, value)
    if not _is_number(value):
        raise UsageError(
            f"{option} of {run.path}",
            expected="an option that is a number",
            found=repr(value) if name in train else "no such option",
            remedy=f"The numbers are {', '.join(key for key, v in train.items() if _is_number(v))}; LAYER:NAME is the "
            "option of a layer, such as last:momentum.",
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
