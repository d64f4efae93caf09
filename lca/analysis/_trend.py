"""Does the LCA of a layer follow an option of the training?     [arXiv 1909.01440, section 4, figure 5]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress

from lca.analysis._layers import layers
from lca.analysis.answer import Column, Report, Table, p_value
from lca.analysis.iterations import Iterations
from lca.errors import LCAError, UsageError
from lca.store.layer_options import LAYER_OPTIONS, LayerOptions
from lca.store.parameters import match_layers
from lca.store.run import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """The total LCA of layers against an option, a point for each run, with the line of least squares.

    option: what it is. x: (run,), its values. layers: their names. lca: (run, layer), in the loss's unit.
    slope, intercept: (layer,), in the loss's unit per unit of x, and at 0. r_squared: (layer,). p: (layer,), that the
    slope is 0; for two runs neither means anything, and both are NaN. All are where a layer's LCA is always the same.
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


def trend(
    runs: Sequence[Run],
    option: str,
    *,
    layer: str = "*",
    delay: bool = False,
    name: str = "train",
    unconverged: bool = False,
) -> Trend:
    """Fit a line to the LCA of each layer.

    option: of the training, such as "learning_rate", or of a layer in it, such as "last:momentum". layer: a name, a
    glob, first or last. delay: take a momentum m as the delay m / (1 − m) of the iterations that it averages over.
    """
    x = np.array([option_of(run, option) for run in runs])
    if delay:
        if not ((x >= 0) & (x < 1)).all():
            raise UsageError(
                f"{option} is {', '.join(f'{value:g}' for value in x)}; a delay is that of a momentum < 1."
            )
        x = x / (1 - x)
    if len(np.unique(x)) < 2:
        raise UsageError(f"{option} is {x[0]:g} in every run; a trend takes runs that differ in it.")
    names = runs[0].parameters.layers
    wanted = [n for n in names if n in (set(names) if layer == "*" else match_layers(layer, names))]
    results = [layers(run, name, unconverged) for run in runs]
    lca = np.array([result.total for result in results])[:, [names.index(n) for n in wanted]]
    lines = [linregress(x, y) if np.ptp(y) else None for y in lca.T]
    figures = [(f.slope, f.intercept, f.rvalue**2, f.pvalue) if f else (np.nan,) * 4 for f in lines]
    slope, intercept, r_squared, p = np.array(figures, np.float64).T
    if len(runs) < 3:
        r_squared, p = np.full((2, len(wanted)), np.nan)
    told = f"delay of {option}" if delay else option
    return Trend(told, x, wanted, lca, slope, intercept, r_squared, p, [result.iterations for result in results])


def option_of(run: Run, option: str) -> float:
    """The value that a training option had in a run; "LAYER:NAME" is that of a layer, its own or else that of all."""
    train = run.attributes.get("train")
    if train is None:
        raise LCAError(f"{run.path} was recorded by a loop of the user's own: its training options are not known.")
    layer, _, name = option.rpartition(":")
    name = LAYER_OPTIONS.get(name, name)
    value = train.get(name)
    if layer:
        names = run.parameters.layers
        wanted = match_layers(layer, names)
        for rule in map(LayerOptions.parse, train.get("layers", [])):
            if wanted <= match_layers(rule.layers, names):
                value = rule.options.get(name, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [key for key, v in train.items() if isinstance(v, int | float) and not isinstance(v, bool)]
        found = f"is {value!r}" if name in train else "is no option"
        raise UsageError(
            f"{option} {found} in {run.path}; one with a number was wanted: {', '.join(numbers)}, "
            "or LAYER:NAME for the option of a layer, such as last:momentum."
        )
    return float(value)


def report(result: Trend) -> Report:
    """The LCA of each layer at each value of the option, and the line through them."""
    columns = {f"{value:g}": Column(result.lca[result.x == value], 4) for value in np.unique(result.x)}
    columns |= {
        "slope": Column.of(result.slope, 5),
        "R²": Column.of(result.r_squared, 3),
        "p (slope 0)": Column.of(result.p, text=p_value),
    }
    arrays = {"x": result.x, "layers": result.layers, "lca": result.lca}
    return Report(
        "trend",
        [Table("layer", result.layers, columns, f"LCA (nats) by {result.option}")],
        result.iterations,
        (),
        arrays,
    )
