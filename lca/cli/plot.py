"""`lca plot FIGURE RUN... --out FILE`: one command a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lca.cli.drawing import ITERATIONS, LAYERS, Drawing, figure
from lca.cli.drawing import plot as plot
from lca.cli.options import Grouped, data_options, grouped, open_alike, problem_of, problem_option, unconverged_option
from lca.errors import UsageError

if TYPE_CHECKING:
    from lca.store.run import Run


@figure("loss", ITERATIONS)
def plot_loss(runs: Sequence[str], name: str, drawing: Drawing) -> None:
    """The loss of a run, what the parts of its change sum to, and the residual.

    \b
    lca plot loss run.zarr --out loss.png
    """
    from lca import figures
    from lca.analysis import loss_curve

    (run,) = one(runs)
    drawing.save([run], name, lambda look: figures.loss(loss_curve(run, name), look))


@figure("helping", unconverged_option, ITERATIONS)
def plot_helping(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """Helped, hurt and zero over the iterations of a run, with the loss on top.

    \b
    lca plot helping run.zarr --out helping.png
    """
    from lca import figures
    from lca.analysis import helping

    (run,) = one(runs)
    drawing.save([run], name, lambda look: figures.helping(helping(run, name, unconverged), look))


@figure("helping-by-layer", unconverged_option, LAYERS)
def plot_helping_by_layer(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The percentage helping of each layer.

    \b
    lca plot helping-by-layer run-?.zarr --out by-layer.png
    """
    from lca import figures
    from lca.analysis import helping

    opened = open_alike(runs)
    results = [helping(run, name, unconverged) for run in opened]
    drawing.save(opened, name, lambda look: figures.helping_by_layer(results, look))


@figure("helping-by-parameter", unconverged_option)
def plot_helping_by_parameter(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """A histogram of the parameters, by the share of the iterations in which each helps.

    \b
    lca plot helping-by-parameter run-?.zarr --out by-parameter.png
    """
    from lca import figures
    from lca.analysis import helping

    opened = open_alike(runs)
    results = [helping(run, name, unconverged) for run in opened]
    drawing.save(opened, name, lambda look: figures.helping_by_parameter(results, look))


@figure("distribution", unconverged_option)
def plot_distribution(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The distribution of the LCA of a run, with a Gaussian and Weibull distributions.

    \b
    lca plot distribution run.zarr --out distribution.png
    """
    from lca import figures
    from lca.analysis import tails

    (run,) = one(runs)
    drawing.save([run], name, lambda look: figures.distribution(tails(run, name, unconverged), look))


@figure("layers", unconverged_option, LAYERS, cls=Grouped)
@click.option("--label", "labels", multiple=True, help="Of a group of runs; repeat it, in their order.")
def plot_layers(runs: Sequence[str], name: str, unconverged: bool, labels: Sequence[str], drawing: Drawing) -> None:
    """The total LCA of each layer as bars; over several runs the mean, with the standard deviation.

    \b
    lca plot layers run-0.zarr run-1.zarr --out layers.pdf
    lca plot layers a-?.zarr -- b-?.zarr --label regular --label frozen --out groups.png
    """
    from lca import figures
    from lca.analysis import layers

    groups = grouped(runs)
    if labels and len(labels) != len(groups):
        raise UsageError(f"{len(labels)} labels were given for {len(groups)} groups of runs.")
    opened = open_alike([run for group in groups for run in group])
    results = iter([layers(run, name, unconverged) for run in opened])
    names = labels or [chr(ord("A") + i) for i in range(len(groups))]
    by_name = {label: [next(results) for _ in group] for label, group in zip(names, groups, strict=True)}
    drawing.save(opened, name, lambda look: figures.layers(by_name, look))


@figure("trend", unconverged_option, LAYERS)
@click.option("--option", required=True, help="Of the training, or of a layer in it: learning_rate, last:momentum.")
@click.option("--delay", is_flag=True, help="Take a momentum m as the delay m / (1 − m), in iterations.")
def plot_trend(runs: Sequence[str], name: str, unconverged: bool, option: str, delay: bool, drawing: Drawing) -> None:
    """The LCA of the layers against a training option; of the last layer that is shown with a line.

    \b
    lca plot trend momentum-*.zarr --option last:momentum --delay --out trend.png
    """
    from lca import figures
    from lca.analysis import trend

    opened = open_alike(runs)
    result = trend(opened, option, delay=delay, name=name, unconverged=unconverged)
    drawing.save(opened, name, lambda look: figures.trend(result, look))


@figure("peaks", unconverged_option, LAYERS, ITERATIONS)
@click.option(
    "--what",
    type=click.Choice(["LCA", "LCA by class", "gradient norm", "motion"]),
    help="Whose peaks.  [default: LCA by class, where the store has it]",
)
def plot_peaks(runs: Sequence[str], name: str, unconverged: bool, what: str | None, drawing: Drawing) -> None:
    """The iterations in which each layer of a run learns most, by class; those of all layers in red.

    \b
    lca plot peaks run.zarr --out peaks.png
    """
    from lca import figures
    from lca.analysis import synchrony

    (run,) = one(runs)
    by_class = what == "LCA by class" or (what is None and "class_lca" in run.allocation(name).arrays)
    result = synchrony(run, name, unconverged, by_class=by_class)
    drawing.save([run], name, lambda look: figures.peaks(result, look, what))


@figure("frame", LAYERS)
@click.option("--iteration", default=0, show_default=True)
def plot_frame(runs: Sequence[str], name: str, iteration: int, drawing: Drawing) -> None:
    """The LCA of every parameter in one iteration, each layer as a matrix.

    \b
    lca plot frame run.zarr --iteration 20 --out frame.png
    """
    from lca import figures

    (run,) = one(runs)
    drawing.save([run], name, lambda look: figures.frame(run, iteration, look, name))


@figure("neurons", unconverged_option, LAYERS, ITERATIONS)
def plot_neurons(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The LCA of each neuron over time, as a heat map.

    \b
    lca plot neurons run.zarr --layers fc1 --iterations 0:200 --out neurons.png
    """
    from lca import figures
    from lca.analysis import neurons

    (run,) = one(runs)
    drawing.save([run], name, lambda look: figures.neurons(neurons(run, name, unconverged), look))


@figure("curves", unconverged_option, ITERATIONS)
@click.option(
    "--parameter",
    "which",
    multiple=True,
    help="best, worst or random (five of each), an index, fc1.weight[3,7] or a tensor; repeat it.  [best worst]",
)
@click.option("--seed", default=0, show_default=True, help="Of those drawn at random.")
def plot_curves(
    runs: Sequence[str], name: str, unconverged: bool, which: Sequence[str], seed: int, drawing: Drawing
) -> None:
    """The cumulative LCA of single parameters over time.

    \b
    lca plot curves run.zarr --parameter best --parameter fc3.bias --out curves.png
    """
    from lca import figures
    from lca.analysis import curves

    (run,) = one(runs)
    result = curves(run, which or ("best", "worst"), name, unconverged, seed)
    drawing.save([run], name, lambda look: figures.curves(result, look))


@figure("cumulative", unconverged_option, LAYERS, ITERATIONS)
def plot_cumulative(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The cumulative LCA of each layer over time, on the train loss and on val's where that is allocated.

    \b
    lca plot cumulative run.zarr --out cumulative.png
    """
    from lca import figures
    from lca.analysis import layers

    (run,) = one(runs)
    val = [other for other in ("val",) if other in run.allocations and run.allocation(other).complete]
    results = {each: layers(run, each, unconverged) for each in dict.fromkeys([name, *val])}
    drawing.save([run], name, lambda look: figures.cumulative(results, look))


@figure("oscillation", unconverged_option, LAYERS)
def plot_oscillation(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """Iterations per turn of the weights, crossing of the gradient (where its signs are kept) and turn of the LCA.

    \b
    lca plot oscillation run.zarr --out oscillation.png
    """
    from lca import figures
    from lca.analysis import oscillation

    opened = open_alike(runs)
    crossings = all("gradient_sign" in run.allocation(name).arrays for run in opened)
    results = [oscillation(run, name, unconverged, crossings) for run in opened]
    drawing.save(opened, name, lambda look: figures.oscillation(results, look))


@figure("overfit", unconverged_option, LAYERS)
@click.option("--against", default="val", show_default=True, help="The allocation of a split that was not trained on.")
def plot_overfit(runs: Sequence[str], name: str, unconverged: bool, against: str, drawing: Drawing) -> None:
    """What the layers learn that does not help on another split.

    \b
    lca plot overfit run.zarr --out overfit.png
    """
    from lca import figures
    from lca.analysis import overfit

    opened = open_alike(runs)
    results = [overfit(run, name, against, unconverged) for run in opened]
    drawing.save(opened, name, lambda look: figures.overfit(results, look))


@figure("prune", unconverged_option)
@click.option("--device", default="auto", show_default=True)
@problem_option
@data_options
def plot_prune(
    runs: Sequence[str],
    name: str,
    unconverged: bool,
    device: str,
    problem: str | None,
    data_dir: Path | None,
    download: bool,
    drawing: Drawing,
) -> None:
    """Loss and accuracy of what pruning leaves, by LCA, by magnitude and at random.

    \b
    lca plot prune run.zarr --out prune.png
    """
    from lca import figures
    from lca.analysis import prune

    opened = open_alike(runs)
    loaded = problem_of(opened[0], problem, data_dir, download)
    results = [prune(run, loaded, name, unconverged, device=device) for run in opened]
    drawing.save(opened, name, lambda look: figures.prune(results, look))


@figure("subset", unconverged_option)
def plot_subset(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """How well allocations over a part of the examples agree with the one over all.

    \b
    lca plot subset run.zarr --out subset.png
    """
    from lca import figures
    from lca.analysis import subset

    opened = open_alike(runs)
    results = [subset(run, name, (), unconverged) for run in opened]
    drawing.save(opened, name, lambda look: figures.subset(results, look))


@figure("error", ITERATIONS)
@click.option(
    "--against",
    multiple=True,
    help="Another allocation of the same run; repeat it.  [default: those over the same examples]",
)
def plot_error(runs: Sequence[str], name: str, against: Sequence[str], drawing: Drawing) -> None:
    """The residual of each iteration, and what has accumulated, of one allocation of a run or several.

    \b
    lca plot error run.zarr --against first-order --out error.png
    """
    from lca import figures
    from lca.analysis import loss_curve

    (run,) = one(runs)
    wanted = _examples_of(run, name)
    others = [other for other in run.allocations if run.allocation(other).complete]
    alike = [other for other in others if _examples_of(run, other) == wanted]
    names = list(dict.fromkeys([name, *(against or alike)]))
    rules = {each: f"{each}, {run.allocation(each).attributes['rule']}" for each in names}
    drawing.save([run], name, lambda look: figures.error({rules[each]: loss_curve(run, each) for each in names}, look))


def _examples_of(run: "Run", name: str) -> tuple[str, int]:
    attributes = run.allocation(name).attributes
    return attributes["split"], attributes["examples"]


def one(runs: Sequence[str]) -> "list[Run]":
    """The one run that a figure is of."""
    if len(runs) != 1:
        raise UsageError(f"{len(runs)} runs were given; this figure is of one.")
    return open_alike(runs)
