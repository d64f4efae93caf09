"""Does the LCA of a layer depend on a training option?     [arXiv 1909.01440, section 4, figure 5]

If there is a run with every seed at every value of the option, the runs with the same seed form a block. Each block has
a slope of its own, and the test asks whether the mean of these slopes is 0. Their mean is also the slope of the line
through all runs. Unlike the test of that line, this test does not treat the variation shared by the runs of a block as
noise, and it remains valid if the seeds respond differently. For two values, it is the paired t-test of `compare`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy
from numpy.typing import NDArray

from lca.analysis._layers import layers
from lca.analysis.answer import Answer, Column, Table, list_p_values
from lca.analysis.iterations import Iterations
from lca.analysis.question import Result, RunLike, open_runs
from lca.analysis.seeds import find_blocks
from lca.analysis.statistics import differs_from_zero
from lca.errors import LCAError, UsageError
from lca.store.layer_options import LAYER_OPTIONS, LayerOptions
from lca.store.parameters import match_layers
from lca.store.run import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Trend(Result):
    """Linear fits of the total LCA of each layer to a training option, with one point per run.

    The fit of a layer is NaN if its LCA is the same in every run.

    Attributes:
        option: Name of the option.
        x: Value of the option, or of the delay, in each run, shape (runs,).
        layers: Names of the layers.
        lca: Total LCA of each layer in each run, in units of the loss, shape (runs, layers).
        slope: Slope of each least-squares line, in units of the loss per unit of the option, shape (layers,).
        intercept: Value of each line where the option is 0, in units of the loss, shape (layers,).
        r_squared: Coefficient of determination of each line, shape (layers,). NaN for two runs.
        seeds: The seeds of the runs, ascending, if there is a run with every seed at every value of the option, and
            more than one seed. Otherwise None.
        p: p-value of the hypothesis that the slope is 0, shape (layers,). If ``seeds`` is set, it is from a one-sample
            t-test of the slopes of the seeds, otherwise from the t-test of the line through all runs. NaN for two runs.
        iterations: The iterations that were used, for each run.
    """

    option: str
    x: Floats
    layers: list[str]
    lca: Floats
    slope: Floats
    intercept: Floats
    r_squared: Floats
    seeds: list[int] | None
    p: Floats
    iterations: list[Iterations]

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Show the LCA of each layer by value of the option and the linear fits, in one table per trend."""

        def table(result: Self) -> Table:
            columns = {
                f"{value:g}": Column(result.lca[result.x == value], signed=True) for value in np.unique(result.x)
            }
            columns |= {
                f"slope ({result.unit} per unit)": Column.of(result.slope),
                "R²": Column.of(result.r_squared, 3),
                **list_p_values("slope = 0" if result.seeds is None else "slope = 0, paired by seed", result.p),
            }
            return Table(
                "layer", result.layers, columns, f"total LCA ({result.unit}) by {result.option}, with a linear fit"
            )

        arrays = {"x": results[0].x, "layers": results[0].layers, "lca": results[0].lca}
        iterations = [of_run for result in results for of_run in result.iterations]
        paired = [result.seeds for result in results if result.seeds]
        notes = [_describe_pairing(paired[0])] if paired else []
        return Answer("trend", [table(result) for result in results], iterations, notes, arrays)


def trend(
    runs: RunLike | Sequence[RunLike],
    option: str,
    *,
    layer: str = "*",
    delay: bool = False,
    name: str = "train",
) -> Trend:
    """Fit the total LCA of each layer as a linear function of a training option.

    If there is a run with every seed at every value of the option, the p-values are from t-tests of the slopes of the
    seeds. Otherwise they are from the t-test of the slope of the line through all runs.

    Source: arXiv 1909.01440, section 4, figure 5.

    Args:
        runs: Paths or URLs of runs, or ``lca.Run`` objects, of the same model with different values of the option.
        option: Name of a training option, such as "learning_rate", or of an option of a layer, such as
            "last:momentum".
        layer: Layers to fit: a name, a glob, "first" or "last".
        delay: Whether to convert a momentum m to the delay m / (1 − m), in iterations.
        name: Name of the allocation.

    Returns:
        The total LCA of each layer in each run, in units of the loss (nats for cross-entropy), and a least-squares line
        for each layer.

    Raises:
        LCAError: If the runs have different models, or a run has no such allocation or no stored training options.
        UsageError: If the option is unknown, is not a number, or is the same in every run.

    Example:
        >>> lca.analysis.trend(["momentum-0.zarr", "momentum-0.5.zarr"], "last:momentum", delay=True)
    """
    opened = open_runs(runs)
    x = np.array([read_option(run, option) for run in opened])
    x = _convert_to_delay(option, x) if delay else x
    if len(np.unique(x)) < 2:
        raise UsageError(option, expected="at least two different values", found=f"{x[0]:g} in every run")
    names = opened[0].parameters.layers
    chosen = [n for n in names if n in (set(names) if layer == "*" else match_layers(layer, names))]
    results = [layers(run, name=name) for run in opened]
    lca = np.array([result.total for result in results])[:, [names.index(n) for n in chosen]]
    slope, intercept, r_squared, p = np.array([_fit_line(x, y) for y in lca.T], np.float64).T
    if len(opened) < 3:
        r_squared, p = np.full((2, len(chosen)), np.nan)
    blocks = find_blocks(opened, x)
    return Trend(
        option=f"delay of {option}" if delay else option,
        x=x,
        layers=chosen,
        lca=lca,
        slope=slope,
        intercept=intercept,
        r_squared=r_squared,
        seeds=list(blocks) or None,
        p=_test_slopes(x, lca, np.array(list(blocks.values()))) if blocks else p,
        iterations=[result.iterations for result in results],
    )


def _convert_to_delay(option: str, momentum: Floats) -> Floats:
    if not ((momentum >= 0) & (momentum < 1)).all():
        found = ", ".join(f"{value:g}" for value in momentum)
        raise UsageError(option, expected="momentum values from 0 to below 1, to compute delays", found=found)
    return np.asarray(momentum / (1 - momentum))


def _test_slopes(x: Floats, y: Floats, blocks: NDArray[np.int64]) -> Floats:
    """Test whether the slope of y(x), fitted for each seed separately, has mean 0. Returns p-values, shape (layers,).

    x has shape (runs,) and y (runs, layers). `blocks` contains the indices of the runs of each seed in ascending order
    of x, shape (seeds, values).
    """
    centered = x[blocks[0]] - x[blocks[0]].mean()  # the same for all seeds
    slopes = np.einsum("v,svl->sl", centered, y[blocks]) / (centered @ centered)
    return differs_from_zero(slopes)


def _fit_line(x: Floats, y: Floats) -> tuple[float, ...]:
    """Return slope, intercept, R² and p-value of the line through y(x), all NaN if all values of y are equal."""
    if not np.ptp(y):
        return (float("nan"),) * 4
    line = scipy.stats.linregress(x, y)
    return line.slope, line.intercept, line.rvalue**2, line.pvalue


def _describe_pairing(seeds: Sequence[int]) -> str:
    listed = ", ".join(map(str, seeds))
    return f"paired by seed: t-test of the slopes of the lines through the runs of each seed ({listed})."


def read_option(run: Run, option: str) -> float:
    """Return the value of a training option in a run.

    For "LAYER:NAME", this is the value set for the layer or, if there is none, the value for all layers.
    """
    train = run.attributes.get("train")
    if train is None:
        raise LCAError(
            f"{run.path} was recorded from a custom training loop, so its training options are unknown",
            remedy="Pass runs that were trained by lca.",
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
            expected="a number",
            found=repr(value) if name in train else "no such option",
            remedy=f"Pass one of {', '.join(key for key, v in train.items() if _is_number(v))}, or LAYER:NAME for the "
            "option of a layer, such as last:momentum.",
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
