"""`lca plot FIGURE RUN... --out FILE`: one command per figure, each with the options that its function has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lca import figures
from lca.cli import film as film
from lca.cli.drawing import ITERATIONS, LAYERS, OUT, SHARED, add_figure, draw, look_options
from lca.cli.drawing import plot as plot
from lca.cli.options import (
    Grouped,
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

add_figure(
    "loss",
    figures.loss,
    "Loss, sum of the parts, residual.",
    """Draw the loss of a run, what the parts of its change sum to, and the residual.

    \b
    lca plot loss run.zarr --out loss.png
    """,
    [ITERATIONS],
    shared=(runs_argument, name_option, OUT),
)
add_figure(
    "helping",
    figures.helping,
    "Helped, hurt and zero over time.",
    """Draw the shares of parameters that helped, hurt and did neither over the iterations of a run, below its loss.

    \b
    lca plot helping run.zarr --out helping.png
    """,
    [ITERATIONS],
)
add_figure(
    "helping-by-layer",
    figures.helping_by_layer,
    "Percentage helping of each layer.",
    """Draw the percentage helping of each layer.

    \b
    lca plot helping-by-layer run-?.zarr --out by-layer.png
    """,
    [LAYERS],
)
add_figure(
    "helping-by-parameter",
    figures.helping_by_parameter,
    "How often each parameter helps.",
    """Draw a histogram of the parameters by the share of iterations in which each helps.

    \b
    lca plot helping-by-parameter run-?.zarr --out by-parameter.png
    """,
)
add_figure(
    "distribution",
    figures.distribution,
    "Distribution of the LCA.",
    """Draw the distribution of the LCA of a run, with a Gaussian and Weibull distributions.

    \b
    lca plot distribution run.zarr --out distribution.png
    """,
)
add_figure(
    "trend",
    figures.trend,
    "LCA against a training option.",
    """Draw the total LCA of each layer for every value of a training option, with a fit for the last layer shown.

    \b
    lca plot trend momentum-*.zarr --option last:momentum --delay --out trend.png
    """,
    [LAYERS],
    {
        "option": "Option of the training, or of a layer in it, such as learning_rate or last:momentum.",
        "delay": "Plot against the delay m/(1 − m) instead of the momentum m.",
    },
    option={"required": True},
)
add_figure(
    "peaks",
    figures.peaks,
    "When each layer learns most.",
    """Draw the iterations in which each layer of a run learns most, by class; those of all layers in red.

    \b
    lca plot peaks run.zarr --out peaks.png
    """,
    [LAYERS, ITERATIONS],
    {"what": "Quantity whose peaks are drawn.  [default: LCA by class, if the store has it]"},
    what={"type": click.Choice(["LCA", "LCA by class", "gradient norm", "motion"])},
)
add_figure(
    "frame",
    figures.frame,
    "Every parameter in one iteration.",
    """Draw the LCA of every parameter in one iteration, each layer as a matrix.

    \b
    lca plot frame run.zarr --iteration 20 --out frame.png
    """,
    [LAYERS],
    {"iteration": "Iteration to draw."},
    shared=(runs_argument, name_option, OUT),
)
add_figure(
    "neurons",
    figures.neurons,
    "LCA of each neuron over time.",
    """Draw the LCA of each neuron over time, as a heat map.

    \b
    lca plot neurons run.zarr --layers fc1 --iterations 0:200 --out neurons.png
    """,
    [LAYERS, ITERATIONS],
)
add_figure(
    "curves",
    figures.curves,
    "LCA of single parameters over time.",
    """Draw the cumulative LCA of single parameters over time.

    \b
    lca plot curves run.zarr --parameter best --parameter fc3.bias --out curves.png
    """,
    [ITERATIONS],
    {
        "parameters": "Parameters to draw: best, worst or random (five of each), an index, a tensor, or one of its "
        "parameters as in fc1.weight[3,7]. Repeatable.",
        "seed": "Random seed for `--parameter random`.",
    },
    parameters={"flag": "--parameter"},
)
add_figure(
    "cumulative",
    figures.cumulative,
    "Cumulative LCA of each layer.",
    """Draw the cumulative LCA of each layer over time, on the train loss and, if it is allocated, on the val loss.

    \b
    lca plot cumulative run.zarr --out cumulative.png
    """,
    [LAYERS, ITERATIONS],
)
add_figure(
    "oscillation",
    figures.oscillation,
    "How often directions change.",
    """Draw iterations per turn of the weights, zero crossing of the gradient (if stored) and turn of the LCA.

    \b
    lca plot oscillation run.zarr --out oscillation.png
    """,
    [LAYERS],
)
add_figure(
    "overfit",
    figures.overfit,
    "What is learned but does not generalise.",
    """Draw what the layers learn that does not help on another split.

    \b
    lca plot overfit run.zarr --out overfit.png
    """,
    [LAYERS],
    {"against": "Allocation of a split that was not trained on."},
)
add_figure(
    "subset",
    figures.subset,
    "How well a subset of examples agrees.",
    """Draw how well allocations over a part of the examples agree with the one over all.

    \b
    lca plot subset run.zarr --out subset.png
    """,
)
add_figure(
    "error",
    figures.error,
    "Residuals by allocation.",
    """Draw the residual of each iteration, and its sum so far, of one allocation of a run or several.

    \b
    lca plot error run.zarr --against first-order --out error.png
    """,
    [ITERATIONS],
    {"against": "Another allocation of the same run. Repeatable.  [default: those over the same examples]"},
    shared=(runs_argument, name_option, OUT),
)


@plot.command("layers", cls=Grouped, short_help="Total LCA of each layer.")
@stack([*SHARED])
@look_options(LAYERS)
@click.option("--label", "labels", multiple=True, help="Label of a group of runs, in their order. Repeatable.")
def plot_layers(runs: Sequence[str], name: str, out: Path, dpi: int, labels: Sequence[str], **options: Any) -> None:
    """Draw the total LCA of each layer as bars; over several runs the mean, with the standard deviation.

    \b
    lca plot layers run-0.zarr run-1.zarr --out layers.pdf
    lca plot layers a-?.zarr -- b-?.zarr --label regular --label frozen --out groups.png
    """
    groups = split_groups(runs)
    if labels and len(labels) != len(groups):
        found = f"{len(labels)} labels"
        raise UsageError("--label", expected=f"a label for each of the {len(groups)} groups of runs", found=found)
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
    """Draw loss and accuracy of what pruning leaves, by LCA, by magnitude and at random.

    \b
    lca plot prune run.zarr --out prune.png
    """
    from lca.allocation.evaluation import Evaluator
    from lca.cli.loading import load_problem

    evaluate = Evaluator(load_problem(open_run(runs[0]), problem, data_dir, download), device=device)
    draw(figures.prune, list(runs), name, out, dpi, {"evaluate": evaluate, **options})
