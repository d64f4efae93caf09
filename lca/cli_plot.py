"""`lca plot FIGURE RUN... --out FILE`: one command a figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lca.errors import UsageError
from lca.shell import (
    Command,
    Grouped,
    data_options,
    grouped,
    heading,
    name_option,
    open_alike,
    problem_of,
    problem_option,
    run_argument,
    runs_argument,
    unconverged_option,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lca.figures.style import Look
    from lca.store import Run


@click.group()
def plot() -> None:
    """Draw a figure of runs that are allocated. Green helps, red hurts."""


@dataclass(frozen=True)
class Drawing:
    """The options that all figures have."""

    out: Path
    dpi: int
    title: str | None
    style: str
    colors: str
    layers: str = "*"
    iterations: str | None = None

    def save(self, runs: "Sequence[Run]", name: str, draw: "Callable[[Look], Figure]") -> None:
        """Draw and write the file."""
        from lca.figures.style import COLOURS, Look, in_style, require_suffix, save

        require_suffix(self.out)
        title = heading(runs, name) if self.title is None else self.title
        with in_style(self.style):
            save(draw(Look(title, COLOURS[self.colors], self.layers, slice_of(self.iterations))), self.out, self.dpi)
        click.echo(str(self.out))


def slice_of(text: str | None) -> tuple[int | None, int | None]:
    """ "A:B" -> its ends."""
    begin, colon, end = (":" if text is None else text).partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (begin, end)):
        raise UsageError(f"iterations is {text!r}; A:B was wanted, such as 0:200 or 400:.")
    return int(begin) if begin else None, int(end) if end else None


LOOK_OPTIONS = (
    click.option("--out", required=True, type=click.Path(path_type=Path), help="The picture: .png, .svg or .pdf."),
    click.option("--dpi", default=160, show_default=True, type=click.IntRange(1), help="Pixels an inch, of a .png."),
    click.option("--title", help="[default: the problem and the loss]"),
    click.option(
        "--style", type=click.Choice(["screen", "paper"]), default="screen", show_default=True, help="A column's size."
    ),
    click.option("--colors", type=click.Choice(["green-red", "blue-orange"]), default="green-red", show_default=True),
)
LAYERS = click.option("--layers", default="*", show_default=True, metavar="GLOB", help="Only these.")
ITERATIONS = click.option("--iterations", metavar="A:B", help="Only these.")


def figure(
    name: str, *choices: Callable[[Command], Command], cls: type[click.Command] = click.Command
) -> Callable[[Command], click.Command]:
    """A command on runs; `drawing` has the options that all figures have, and those of the choices that it heeds."""

    def decorate(command: Command) -> click.Command:
        @wraps(command)
        def with_drawing(**options: Any) -> None:
            look = {field.name: options.pop(field.name) for field in fields(Drawing) if field.name in options}
            command(drawing=Drawing(**look), **options)

        decorated: Command = with_drawing
        options: list[Callable[[Command], Command]] = [runs_argument, name_option, *LOOK_OPTIONS, *choices]
        for option in reversed(options):
            decorated = option(decorated)
        return plot.command(name, cls=cls)(decorated)

    return decorate


@figure("loss", ITERATIONS)
def plot_loss(runs: Sequence[str], name: str, drawing: Drawing) -> None:
    """The loss of a run, what the parts of its change sum to, and the residual.

    \b
    lca plot loss run.zarr --out loss.png
    """
    from lca.analysis import loss_curve
    from lca.figures.loss import draw

    (run,) = one(runs)
    drawing.save([run], name, lambda look: draw(loss_curve(run, name), look))


@figure("helping", unconverged_option, ITERATIONS)
def plot_helping(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """Helped, hurt and zero over the iterations of a run, with the loss on top.

    \b
    lca plot helping run.zarr --out helping.png
    """
    from lca.analysis import helping
    from lca.figures.helping import draw

    (run,) = one(runs)
    drawing.save([run], name, lambda look: draw(helping(run, name, unconverged), look))


@figure("helping-by-layer", unconverged_option, LAYERS)
def plot_helping_by_layer(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The percentage helping of each layer.

    \b
    lca plot helping-by-layer run-?.zarr --out by-layer.png
    """
    from lca.analysis import helping
    from lca.figures.helping_by_layer import draw

    opened = open_alike(runs)
    drawing.save(opened, name, lambda look: draw([helping(run, name, unconverged) for run in opened], look))


@figure("helping-by-parameter", unconverged_option)
def plot_helping_by_parameter(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """A histogram of the parameters, by the share of the iterations in which each helps.

    \b
    lca plot helping-by-parameter run-?.zarr --out by-parameter.png
    """
    from lca.analysis import helping
    from lca.figures.helping_by_parameter import draw

    opened = open_alike(runs)
    drawing.save(opened, name, lambda look: draw([helping(run, name, unconverged) for run in opened], look))


@figure("distribution", unconverged_option)
def plot_distribution(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The distribution of the LCA of a run, with a Gaussian and Weibull distributions.

    \b
    lca plot distribution run.zarr --out distribution.png
    """
    from lca.analysis import tails
    from lca.figures.distribution import draw

    (run,) = one(runs)
    drawing.save([run], name, lambda look: draw(tails(run, name, unconverged), look))


@figure("layers", unconverged_option, LAYERS, cls=Grouped)
@click.option("--label", "labels", multiple=True, help="Of a group of runs; repeat it, in their order.")
def plot_layers(runs: Sequence[str], name: str, unconverged: bool, labels: Sequence[str], drawing: Drawing) -> None:
    """The total LCA of each layer as bars; over several runs the mean, with the standard deviation.

    \b
    lca plot layers run-0.zarr run-1.zarr --out layers.pdf
    lca plot layers a-?.zarr -- b-?.zarr --label regular --label frozen --out groups.png
    """
    from lca.analysis import layers
    from lca.figures.layers import draw

    groups = grouped(runs)
    if labels and len(labels) != len(groups):
        raise UsageError(f"{len(labels)} labels were given for {len(groups)} groups of runs.")
    opened = open_alike([run for group in groups for run in group])
    results = iter([layers(run, name, unconverged) for run in opened])
    names = labels or [chr(ord("A") + i) for i in range(len(groups))]
    by_name = {label: [next(results) for _ in group] for label, group in zip(names, groups, strict=True)}
    drawing.save(opened, name, lambda look: draw(by_name, look))


@figure("trend", unconverged_option, LAYERS)
@click.option("--option", required=True, help="Of the training, or of a layer in it: learning_rate, last:momentum.")
@click.option("--delay", is_flag=True, help="Take a momentum m as the delay m / (1 − m), in iterations.")
def plot_trend(runs: Sequence[str], name: str, unconverged: bool, option: str, delay: bool, drawing: Drawing) -> None:
    """The LCA of the layers against a training option; of the last layer that is shown with a line.

    \b
    lca plot trend momentum-*.zarr --option last:momentum --delay --out trend.png
    """
    from lca.analysis import trend
    from lca.figures.trend import draw

    opened = open_alike(runs)
    result = trend(opened, option, delay=delay, name=name, unconverged=unconverged)
    drawing.save(opened, name, lambda look: draw(result, look))


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
    from lca.analysis import synchrony
    from lca.figures.peaks import draw

    (run,) = one(runs)
    by_class = what == "LCA by class" or (what is None and "class_lca" in run.allocation(name).arrays)
    result = synchrony(run, name, unconverged, by_class=by_class)
    drawing.save([run], name, lambda look: draw(result, look, what))


@figure("frame", LAYERS)
@click.option("--iteration", default=0, show_default=True)
def plot_frame(runs: Sequence[str], name: str, iteration: int, drawing: Drawing) -> None:
    """The LCA of every parameter in one iteration, each layer as a matrix.

    \b
    lca plot frame run.zarr --iteration 20 --out frame.png
    """
    from lca.figures.frame import draw

    (run,) = one(runs)
    drawing.save([run], name, lambda look: draw(run, iteration, look, name))


@figure("neurons", unconverged_option, LAYERS, ITERATIONS)
def plot_neurons(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The LCA of each neuron over time, as a heat map.

    \b
    lca plot neurons run.zarr --layers fc1 --iterations 0:200 --out neurons.png
    """
    from lca.analysis import neurons
    from lca.figures.neurons import draw

    (run,) = one(runs)
    drawing.save([run], name, lambda look: draw(neurons(run, name, unconverged), look))


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
    from lca.analysis import curves
    from lca.figures.curves import draw

    (run,) = one(runs)
    result = curves(run, which or ("best", "worst"), name, unconverged, seed)
    drawing.save([run], name, lambda look: draw(result, look))


@figure("cumulative", unconverged_option, LAYERS, ITERATIONS)
def plot_cumulative(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """The cumulative LCA of each layer over time, on the train loss and on val's where that is allocated.

    \b
    lca plot cumulative run.zarr --out cumulative.png
    """
    import numpy as np

    from lca.analysis import layers
    from lca.figures.cumulative import draw

    (run,) = one(runs)
    val = [other for other in ("val",) if other in run.allocations and run.allocation(other).complete]
    results = {each: layers(run, each, unconverged) for each in dict.fromkeys([name, *val])}
    curves = {each: np.where(np.isnan(found.lca), np.nan, found.cumulative) for each, found in results.items()}
    drawing.save([run], name, lambda look: draw(run.parameters.layers, curves, look))


@figure("oscillation", unconverged_option, LAYERS)
def plot_oscillation(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """Iterations per turn of the weights, crossing of the gradient (where its signs are kept) and turn of the LCA.

    \b
    lca plot oscillation run.zarr --out oscillation.png
    """
    from lca.analysis import oscillation
    from lca.figures.oscillation import draw

    opened = open_alike(runs)
    crossings = all("gradient_sign" in run.allocation(name).arrays for run in opened)
    results = [oscillation(run, name, unconverged, crossings) for run in opened]
    drawing.save(opened, name, lambda look: draw(results, look))


@figure("overfit", unconverged_option, LAYERS)
@click.option("--against", default="val", show_default=True, help="The allocation of a split that was not trained on.")
def plot_overfit(runs: Sequence[str], name: str, unconverged: bool, against: str, drawing: Drawing) -> None:
    """What the layers learn that does not help on another split.

    \b
    lca plot overfit run.zarr --out overfit.png
    """
    from lca.analysis import overfit
    from lca.figures.overfit import draw

    opened = open_alike(runs)
    results = [overfit(run, name, against, unconverged) for run in opened]
    drawing.save(opened, name, lambda look: draw(results, look))


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
    from lca.analysis import prune
    from lca.figures.prune import draw

    opened = open_alike(runs)
    loaded = problem_of(opened[0], problem, data_dir, download)
    results = [prune(run, loaded, name, unconverged, device=device) for run in opened]
    drawing.save(opened, name, lambda look: draw(results, look))


@figure("subset", unconverged_option)
def plot_subset(runs: Sequence[str], name: str, unconverged: bool, drawing: Drawing) -> None:
    """How well allocations over a part of the examples agree with the one over all.

    \b
    lca plot subset run.zarr --out subset.png
    """
    from lca.analysis import subset
    from lca.figures.subset import draw

    opened = open_alike(runs)
    results = [subset(run, name, (), unconverged) for run in opened]
    drawing.save(opened, name, lambda look: draw(results, look))


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
    from lca.analysis import loss_curve
    from lca.figures.error import draw

    (run,) = one(runs)
    wanted = _examples_of(run, name)
    others = [other for other in run.allocations if run.allocation(other).complete]
    alike = [other for other in others if _examples_of(run, other) == wanted]
    names = list(dict.fromkeys([name, *(against or alike)]))
    rules = {each: f"{each}, {run.allocation(each).attributes['rule']}" for each in names}
    drawing.save([run], name, lambda look: draw({rules[each]: loss_curve(run, each) for each in names}, look))


def _examples_of(run: "Run", name: str) -> tuple[str, int]:
    attributes = run.allocation(name).attributes
    return attributes["split"], attributes["examples"]


def one(runs: Sequence[str]) -> "list[Run]":
    """The one run that a figure is of."""
    if len(runs) != 1:
        raise UsageError(f"{len(runs)} runs were given; this figure is of one.")
    return open_alike(runs)


@plot.command("animation")
@run_argument
@name_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The film: .mp4, .webm or .gif.")
@click.option("--layers", default="*", show_default=True, metavar="GLOB", help="Only these.")
@click.option("--iterations", metavar="A:B", help="Only these.")
@click.option("--every", default=1, show_default=True, help="Show one of so many iterations.")
@click.option("--smooth", default=1, show_default=True, help="The mean of so many iterations, up to each.")
@click.option("--fps", default=24, show_default=True, help="Frames a second.")
@click.option("--size", default="1280x720", show_default=True, metavar="WxH", help="In pixels.")
@click.option("--title", help="[default: the problem and the loss]")
@click.option("--colors", type=click.Choice(["green-red", "blue-orange"]), default="green-red", show_default=True)
def plot_animation(
    path: str,
    name: str,
    out: Path,
    layers: str,
    iterations: str | None,
    every: int,
    smooth: int,
    fps: int,
    size: str,
    title: str | None,
    colors: str,
) -> None:
    """The training as a film: the LCA of every parameter, each layer as a matrix, with the loss beneath.

    \b
    lca plot animation run.zarr --iterations 0:220 --out training.mp4
    """
    from lca.figures.animation import Film, animate
    from lca.figures.style import COLOURS, Look, in_style

    width, x, height = size.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"size is {size!r}; WxH was wanted, such as 1280x720.")
    (run,) = open_alike([path])
    look = Look(heading([run], name) if title is None else title, COLOURS[colors], layers, slice_of(iterations))
    with in_style("screen"):
        n = animate(run, out, look, Film(fps, every, smooth, int(width), int(height)), name)
    click.echo(f"{out}: {n:,} frames, {n / fps:.1f} s")


@plot.command("report")
@runs_argument
@name_option
@unconverged_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The page, .html.")
@click.option("--title", help="[default: the problem and the loss]")
@click.option("--colors", type=click.Choice(["green-red", "blue-orange"]), default="green-red", show_default=True)
def plot_report(runs: Sequence[str], name: str, unconverged: bool, out: Path, title: str | None, colors: str) -> None:
    """One page that tells the story of a run, or of several side by side; it opens from disk, without network.

    \b
    lca plot report run.zarr --out report.html
    """
    from lca.figures.report import write
    from lca.figures.style import COLOURS, Look

    opened = open_alike(runs)
    look = Look(heading(opened, name) if title is None else title, COLOURS[colors])
    write(opened, out, look, name, unconverged)
    click.echo(str(out))
