"""`lca plot FIGURE RUN... --out FILE`: one command per figure, with an option for each argument of its function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lca import figures
from lca.cli import film as film
from lca.cli.drawing import ITERATIONS, LAYERS, OUT, SHARED, add_figure, draw, look_options
from lca.cli.drawing import plot as plot
from lca.cli.options import (
    RunGroups,
    data_options,
    device_option,
    name_option,
    problem_option,
    runs_argument,
    split_groups,
    stack,
)
from lca.errors import UsageError
from lca.store.run import open_run
from lca.text import pluralize

add_figure(
    "loss",
    figures.loss,
    "Loss and sum of the LCA over time.",
    """Plot the loss of a run next to its first value plus the sum of all LCA so far, and plot the residuals.

    The residual of an iteration is the sum of its LCA minus the change in the loss.

    \b
    lca plot loss run.zarr --out loss.png
    """,
    [ITERATIONS],
    shared=(runs_argument, name_option, OUT),
)
add_figure(
    "helping",
    figures.helping,
    "Parameters that help and hurt over time.",
    """Plot the percentages of parameters that help, have no effect and hurt in each iteration of a run, with its loss.

    \b
    lca plot helping run.zarr --out helping.png
    """,
    [ITERATIONS],
)
add_figure(
    "helping-by-layer",
    figures.helping_by_layer,
    "Percentage of parameters that help, by layer.",
    """Plot the percentage of parameters that help in each layer, for one or more runs.

    \b
    lca plot helping-by-layer run-?.zarr --out by-layer.png
    """,
    [LAYERS],
)
add_figure(
    "helping-by-parameter",
    figures.helping_by_parameter,
    "How often single parameters help.",
    """Plot a histogram of the parameters by the percentage of iterations in which they help.

    \b
    lca plot helping-by-parameter run-?.zarr --out by-parameter.png
    """,
)
add_figure(
    "distribution",
    figures.distribution,
    "Distribution of the LCA.",
    """Plot the distribution of all non-zero LCA values of a run, with a Gaussian and fitted Weibull distributions.

    \b
    lca plot distribution run.zarr --out distribution.png
    """,
)
add_figure(
    "trend",
    figures.trend,
    "LCA against a training option.",
    """Plot the total LCA of each layer for every value of a training option that differs between the runs.

    A linear fit is drawn for the last layer shown.

    \b
    lca plot trend momentum-?.zarr --option last:momentum --delay --out trend.png
    """,
    [LAYERS],
    {
        "option": "Training option that differs between the runs, such as learning_rate or last:momentum (LAYER:NAME).",
        "delay": "Plot against the delay m/(1 − m) instead of the momentum m.",
    },
    option={"required": True},
)
add_figure(
    "peaks",
    figures.peaks,
    "When each layer learns most.",
    """Plot the iterations in which each layer of a run learns most.

    Peaks that all layers share have a different color. If the LCA is stored by class, the peaks are shown by class and
    layer.

    \b
    lca plot peaks run.zarr --out peaks.png
    """,
    [LAYERS, ITERATIONS],
    {"what": "Quantity whose peaks are plotted.  [default: LCA by class if stored, else LCA]"},
    what={"type": click.Choice(["LCA", "LCA by class", "gradient norm", "motion"])},
)
add_figure(
    "frame",
    figures.frame,
    "Every parameter in one iteration.",
    """Draw the LCA of every parameter of a run in one iteration, with each tensor as a matrix.

    \b
    lca plot frame run.zarr --iteration 20 --out frame.png
    """,
    [LAYERS],
    {"iteration": "Iteration to draw, counted from 0."},
    shared=(runs_argument, name_option, OUT),
)
add_figure(
    "neurons",
    figures.neurons,
    "LCA of each neuron over time.",
    """Plot the LCA of each neuron of a run over time, as a heat map with one row per neuron.

    \b
    lca plot neurons run.zarr --layers fc1 --iterations 0:200 --out neurons.png
    """,
    [LAYERS, ITERATIONS],
)
add_figure(
    "curves",
    figures.curves,
    "LCA of single parameters over time.",
    """Plot the cumulative LCA of single parameters of a run over time.

    \b
    lca plot curves run.zarr --parameter best --parameter fc3.bias --out curves.png
    """,
    [ITERATIONS],
    {
        "parameters": "Parameters to plot: best, worst or random (five of each), an index, a tensor, or an element of "
        "a tensor, as in fc1.weight[3,7]. Repeatable.",
        "seed": "Random seed for `--parameter random`.",
    },
    parameters={"flag": "--parameter"},
)
add_figure(
    "cumulative",
    figures.cumulative,
    "Cumulative LCA of each layer.",
    """Plot the cumulative LCA of each layer of a run over time.

    If the run has a complete allocation named val, it is drawn as well.

    \b
    lca plot cumulative run.zarr --out cumulative.png
    """,
    [LAYERS, ITERATIONS],
)
add_figure(
    "oscillation",
    figures.oscillation,
    "How often updates and LCA change sign.",
    """Plot the mean number of iterations between sign changes of the weight updates, gradients and LCA, by layer.

    Gradients are included if the allocation was made with `--gradient-signs`.

    \b
    lca plot oscillation run.zarr --out oscillation.png
    """,
    [LAYERS],
)
add_figure(
    "overfit",
    figures.overfit,
    "Which layers learn without generalizing.",
    """Plot how much less each layer helps on a held-out split than on the training split.

    The held-out split must be allocated first.

    \b
    lca allocate run.zarr --split val
    lca plot overfit run.zarr --out overfit.png
    """,
    [LAYERS],
    {"against": "Name of the allocation of a held-out split."},
    against={"metavar": "NAME"},
)
add_figure(
    "subset",
    figures.subset,
    "Agreement of subsets with the whole split.",
    """Plot how well allocations over subsets of the examples agree with the allocation over the whole split.

    \b
    lca allocate run.zarr --examples 5000 --name subset-5000
    lca plot subset run.zarr --out subset.png
    """,
)
add_figure(
    "error",
    figures.error,
    "Residuals of one or more allocations.",
    """Plot the residual of each iteration, and the cumulative residual, of one or more allocations of a run.

    The residual is the sum of the LCA minus the change in the loss.

    \b
    lca plot error run.zarr --against first-order --out error.png
    """,
    [ITERATIONS],
    {
        "against": "Name of another allocation of the same run. Repeatable.  "
        "[default: all complete allocations over the same examples]"
    },
    against={"metavar": "NAME"},
    shared=(runs_argument, name_option, OUT),
)


@plot.command("layers", cls=RunGroups, short_help="Total LCA of each layer.")
@stack([*SHARED])
@look_options(LAYERS)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL",
    help="Label of a group of runs. Repeat the option for each group, in the order of the groups.  [default: A, B, …]",
)
def plot_layers(runs: Sequence[str], name: str, out: Path, dpi: int, labels: Sequence[str], **options: Any) -> None:
    """Plot the total LCA of each layer as bars, with the mean and standard deviation over several runs.

    Groups of runs, separated by `--`, are shown side by side.

    \b
    lca plot layers a-?.zarr -- b-?.zarr --label regular --label frozen --out groups.png
    """
    groups = split_groups(runs)
    if labels and len(labels) != len(groups):
        expected = f"one label for each of the {pluralize(len(groups), 'group')} of runs"
        raise UsageError("--label", expected=expected, found=pluralize(len(labels), "label"))
    names = labels or [chr(ord("A") + i) for i in range(len(groups))]
    draw(figures.layers, dict(zip(names, groups, strict=True)), name, out, dpi, options)


@plot.command("prune", short_help="Loss and accuracy after pruning.")
@stack([*SHARED])
@look_options()
@device_option
@problem_option
@data_options
def plot_prune(
    runs: Sequence[str],
    name: str,
    out: Path,
    dpi: int,
    device: str,
    problem: str | None,
    data_dir: Path | None,
    download: bool,
    **options: Any,
) -> None:
    """Plot loss and accuracy against the percentage of pruned weights, by LCA, by magnitude and at random.

    \b
    lca plot prune run.zarr --out prune.png
    """
    from lca.allocation.evaluation import Evaluator
    from lca.cli.loading import load_problem

    evaluate = Evaluator(load_problem(open_run(runs[0]), problem, data_dir, download), device=device)
    draw(figures.prune, list(runs), name, out, dpi, {"evaluate": evaluate, **options})
