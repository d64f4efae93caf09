"""`lca analyze QUESTION RUN...`: one command a question."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from lca.cli.options import (
    Command,
    Grouped,
    data_options,
    grouped,
    json_option,
    name_option,
    open_alike,
    print_reports,
    problem_of,
    problem_option,
    runs_argument,
    unconverged_option,
)
from lca.errors import UsageError


@click.group()
def analyze() -> None:
    """Ask a question about runs that are allocated.

    Over several runs of the same model each figure is mean ± standard deviation. Iterations that are not allocated, did
    not converge or are not finite are left out and counted.
    """


def question(name: str, cls: type[click.Command] = click.Command) -> Callable[[Command], click.Command]:
    """A command on runs, with the options that all questions have."""

    def decorate(command: Command) -> click.Command:
        for option in (json_option, unconverged_option, name_option, runs_argument):
            command = option(command)
        return analyze.command(name, cls=cls)(command)

    return decorate


@question("helping")
def analyze_helping(runs: Sequence[str], name: str, unconverged: bool, json_file: Path | None) -> None:
    """The percentage of parameters that help in an iteration, of those with non-zero LCA; and how often each helps.

    \b
    lca analyze helping run-0.zarr run-1.zarr run-2.zarr --json helping.json
    """
    from lca.analysis._helping import helping, report

    print_reports([report([helping(run, name, unconverged) for run in open_alike(runs)])], json_file)


@question("layers")
def analyze_layers(runs: Sequence[str], name: str, unconverged: bool, json_file: Path | None) -> None:
    """The total LCA of each layer, its biases and norms with its kernel. Below 0 it helped, above it hurt.

    \b
    lca analyze layers run.zarr
    """
    from lca.analysis._layers import layers, report

    print_reports([report([layers(run, name, unconverged) for run in open_alike(runs)])], json_file)


@question("neurons")
def analyze_neurons(runs: Sequence[str], name: str, unconverged: bool, json_file: Path | None) -> None:
    """The LCA of each neuron or output channel, its slice of the kernel with its bias and norm.

    \b
    lca analyze neurons run.zarr --json neurons.json
    """
    from lca.analysis._neurons import MAX_CELLS, neurons, report

    results = [neurons(run, name, unconverged, MAX_CELLS // len(runs)) for run in open_alike(runs)]
    print_reports([report(results, runs)], json_file)


@question("oscillation")
@click.option("--crossings/--no-crossings", default=True, help="Of the gradient; they take its signs.")
def analyze_oscillation(
    runs: Sequence[str], name: str, unconverged: bool, crossings: bool, json_file: Path | None
) -> None:
    """How often weights turn, gradients cross 0 and LCA changes sign.

    The crossings need `lca allocate RUN --gradient-signs`.

    \b
    lca analyze oscillation run.zarr
    """
    from lca.analysis._oscillation import oscillation, report

    results = [oscillation(run, name, unconverged, crossings) for run in open_alike(runs)]
    print_reports([report(results)], json_file)


@question("tails")
def analyze_tails(runs: Sequence[str], name: str, unconverged: bool, json_file: Path | None) -> None:
    """How heavy-tailed the LCA of single parameters in single iterations is.

    \b
    lca analyze tails run.zarr
    """
    from lca.analysis._tails import report, tails

    print_reports([report([tails(run, name, unconverged) for run in open_alike(runs)])], json_file)


@question("synchrony")
@click.option("--by-class", is_flag=True, help="For each class as well; it takes `lca allocate RUN --by-class`.")
@click.option("--without-0", is_flag=True, help="By chance, every layer is shifted: no shift of 0 is drawn.")
@click.option("--repeats", default=1_000, show_default=True, help="Draws of the shifts.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
def analyze_synchrony(
    runs: Sequence[str],
    name: str,
    unconverged: bool,
    by_class: bool,
    without_0: bool,
    repeats: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Whether the layers have their moments of learning in the same iterations, against what chance gives.

    \b
    lca analyze synchrony run.zarr --by-class
    """
    from lca.analysis._synchrony import SHIFTS, report, synchrony

    shifts = [shift for shift in SHIFTS if shift or not without_0]
    options: dict[str, Any] = {"by_class": by_class, "shifts": shifts, "repeats": repeats, "seed": seed}
    print_reports([report([synchrony(run, name, unconverged, **options) for run in open_alike(runs)])], json_file)


@question("overfit")
@click.option("--against", default="val", show_default=True, help="The allocation of a split that was not trained on.")
def analyze_overfit(runs: Sequence[str], name: str, unconverged: bool, against: str, json_file: Path | None) -> None:
    """Which layers and neurons learn what does not generalise: LCA of the train loss against that of another split.

    \b
    lca allocate run.zarr --split val
    lca analyze overfit run.zarr
    """
    from lca.analysis._overfit import overfit, report

    results = [overfit(run, name, against, unconverged) for run in open_alike(runs)]
    print_reports([report(results, runs)], json_file)


@question("compare", cls=Grouped)
def analyze_compare(runs: Sequence[str], name: str, unconverged: bool, json_file: Path | None) -> None:
    """Two groups of runs, A... -- B..., by layer and in their final losses, with Welch's t-test.

    \b
    lca analyze compare regular-?.zarr -- frozen-?.zarr
    """
    from lca.analysis._compare import compare, report

    groups = grouped(runs)
    if len(groups) != 2:
        raise UsageError("two groups of runs were wanted, with -- between them: lca analyze compare A... -- B...")
    opened, n = open_alike([run for group in groups for run in group]), len(groups[0])
    print_reports([report(compare(opened[:n], opened[n:], name, unconverged))], json_file)


@question("trend")
@click.option("--option", required=True, help="Of the training, or of a layer in it: learning_rate, last:momentum.")
@click.option("--layer", default="*", show_default=True, help="Whose LCA: a name, a glob, first or last.")
@click.option("--delay", is_flag=True, help="Take a momentum m as the delay m / (1 − m), in iterations.")
def analyze_trend(
    runs: Sequence[str],
    name: str,
    unconverged: bool,
    option: str,
    layer: str,
    delay: bool,
    json_file: Path | None,
) -> None:
    """The LCA of each layer against a training option that the runs differ in, with the line through it.

    \b
    lca analyze trend momentum-*.zarr --option last:momentum --delay
    """
    from lca.analysis._trend import report, trend

    result = trend(open_alike(runs), option, layer=layer, delay=delay, name=name, unconverged=unconverged)
    print_reports([report(result)], json_file)


@analyze.command("error")
@runs_argument
@click.option("--name", "names", multiple=True, help="An allocation; repeat it.  [default: all that are complete]")
@json_option
def analyze_error(runs: Sequence[str], names: Sequence[str], json_file: Path | None) -> None:
    """How exact the allocations are, of the sum and of the parts; by rule, where there are several.

    \b
    lca allocate run.zarr --rule first-order --name first-order --keep tensors
    lca analyze error run.zarr
    """
    from lca.analysis._error import error, report

    print_reports([report([error(run, names) for run in open_alike(runs)])], json_file)


@question("subset")
@click.option("--against", multiple=True, help="An allocation over a subset; repeat it.  [default: all of the split]")
def analyze_subset(
    runs: Sequence[str], name: str, unconverged: bool, against: Sequence[str], json_file: Path | None
) -> None:
    """How well allocations over a part of the examples agree with the one over all.

    \b
    lca allocate run.zarr --examples 5000 --name subset-5000
    lca analyze subset run.zarr
    """
    from lca.analysis._subset import report, subset

    print_reports([report([subset(run, name, against, unconverged) for run in open_alike(runs)])], json_file)


@question("prune")
@click.option("--percent", multiple=True, type=float, help="Of the weights to set to 0; repeat it.  [50 80 90 95 98]")
@click.option("--seed", default=0, show_default=True, help="Of the choice at random.")
@click.option("--device", default="auto", show_default=True)
@problem_option
@data_options
def analyze_prune(
    runs: Sequence[str],
    name: str,
    unconverged: bool,
    percent: Sequence[float],
    seed: int,
    device: str,
    problem: str | None,
    data_dir: Path | None,
    download: bool,
    json_file: Path | None,
) -> None:
    """Loss and accuracy with only the weights of the most negative LCA left, or the largest, or some at random.

    \b
    lca analyze prune run.zarr --percent 50 --percent 90
    """
    from lca.analysis._prune import PRUNED, prune, report

    opened = open_alike(runs)
    parts = [value / 100 for value in percent] or PRUNED
    loaded = problem_of(opened[0], problem, data_dir, download)
    results = [prune(run, loaded, name, unconverged, pruned=parts, seed=seed, device=device) for run in opened]
    print_reports([report(results)], json_file)


@question("all")
def analyze_all(runs: Sequence[str], name: str, unconverged: bool, json_file: Path | None) -> None:
    """Every question that the stores have arrays for, each array being read once where that can be.

    \b
    lca analyze all run.zarr --json all.json
    """
    from lca.analysis._everything import everything, report
    from lca.analysis._neurons import MAX_CELLS

    cells = MAX_CELLS // len(runs)
    reports, unanswered = report([everything(run, name, unconverged, cells) for run in open_alike(runs)], runs)
    print_reports(reports, json_file, headings=True)
    for question, lacks in unanswered.items():
        click.echo(f"not answered: {question}: {lacks}", err=True)
