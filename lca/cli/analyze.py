"""`lca analyze QUESTION RUN...`: one command per question, each with the options that its function has."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lca import analysis
from lca.analysis.answer import Answer
from lca.cli.errors import render
from lca.cli.options import (
    Decorator,
    Grouped,
    argument_options,
    data_options,
    device_option,
    json_option,
    name_option,
    problem_option,
    runs_argument,
    split_groups,
    stack,
    unconverged_option,
)
from lca.cli.output import write_json
from lca.errors import UsageError
from lca.store.run import open_run


@click.group()
def analyze() -> None:
    """Ask a question about allocated runs.

    Over several runs of the same model each figure is mean ± standard deviation. Iterations that are not allocated, did
    not converge or are not finite are left out and counted.
    """


SHARED = (runs_argument, name_option, unconverged_option, json_option)


def add_question(
    name: str,
    question: Callable[..., Any],
    short: str,
    help: str,
    helps: Mapping[str, str] | None = None,
    shared: Sequence[Decorator] = SHARED,
    **settings: Any,
) -> None:
    """Add a command that asks a question and prints its answer.

    helps, settings: of the question's own arguments, see argument_options.
    """

    def command(runs: Sequence[str], json_file: Path | None, **options: Any) -> None:
        print_answer(question(list(runs), **options).to_answer(), json_file)

    options = argument_options(question, helps or {}, **settings)
    analyze.command(name, help=help, short_help=short)(stack([*shared, options])(command))


add_question(
    "helping",
    analysis.helping,
    "Percentage of parameters that help.",
    """Show the percentage of parameters with non-zero LCA that help in an iteration, and how often each helps.

    \b
    lca analyze helping run-0.zarr run-1.zarr run-2.zarr --json helping.json
    """,
)
add_question(
    "layers",
    analysis.layers,
    "Total LCA of each layer.",
    """Show the total LCA of each layer, its biases and norms with its kernel. Below 0 it helped, above 0 it hurt.

    \b
    lca analyze layers run.zarr
    """,
)
add_question(
    "neurons",
    analysis.neurons,
    "LCA of each neuron or channel.",
    """Show the LCA of each neuron or output channel: its slice of the kernel with its bias and norm.

    \b
    lca analyze neurons run.zarr --json neurons.json
    """,
)
add_question(
    "oscillation",
    analysis.oscillation,
    "How often directions change.",
    """Show how often weights turn, gradients cross 0 and LCA changes sign.

    The crossings need `lca allocate RUN --gradient-signs`.

    \b
    lca analyze oscillation run.zarr
    """,
    {"crossings": "Count the zero crossings of the gradient, which needs its signs."},
)
add_question(
    "tails",
    analysis.tails,
    "How heavy-tailed the LCA is.",
    """Show how heavy-tailed the LCA of single parameters in single iterations is.

    \b
    lca analyze tails run.zarr
    """,
)
add_question(
    "overfit",
    analysis.overfit,
    "What is learned but does not generalise.",
    """Show which layers and neurons learn what does not generalise: the LCA on train against that on another split.

    \b
    lca allocate run.zarr --split val
    lca analyze overfit run.zarr
    """,
    {"against": "Allocation of a split that was not trained on."},
)
add_question(
    "subset",
    analysis.subset,
    "How well a subset of examples agrees.",
    """Show how well allocations over a part of the examples agree with the one over all.

    \b
    lca allocate run.zarr --examples 5000 --name subset-5000
    lca analyze subset run.zarr
    """,
    {"against": "Allocation over a subset. Repeatable.  [default: all of the split]"},
)
add_question(
    "error",
    analysis.error,
    "How exact the allocations are.",
    """Show how exact the allocations are, of the sum and of the parts, by rule where there are several.

    \b
    lca allocate run.zarr --rule first-order --name first-order --keep tensors
    lca analyze error run.zarr
    """,
    {"names": "Allocation to include. Repeatable.  [default: all complete ones]"},
    shared=(runs_argument, json_option),
    names={"flag": "--name"},
)
add_question(
    "trend",
    analysis.trend,
    "LCA against a training option.",
    """Fit the LCA of each layer against a training option that the runs differ in.

    \b
    lca analyze trend momentum-*.zarr --option last:momentum --delay
    """,
    {
        "option": "Option of the training, or of a layer in it, such as learning_rate or last:momentum.",
        "layer": "Layers whose LCA is fitted (name, glob, first or last).",
        "delay": "Plot against the delay m/(1 − m) instead of the momentum m.",
    },
    option={"required": True},
)


@analyze.command("synchrony", short_help="Whether layers learn at the same time.")
@stack([*SHARED])
@argument_options(
    analysis.synchrony,
    {
        "by_class": "Also for each class, which needs `lca allocate RUN --by-class`.",
        "repeats": "Number of random shifts for the chance level.",
        "seed": "Random seed for the shifts.",
    },
)
@click.option("--without-0", is_flag=True, help="Exclude shift 0 from the chance model.")
def analyze_synchrony(runs: Sequence[str], json_file: Path | None, without_0: bool, **options: Any) -> None:
    """Show whether the layers learn in the same iterations, compared with chance.

    \b
    lca analyze synchrony run.zarr --by-class
    """
    shifts = tuple(shift for shift in analysis.SHIFTS if shift or not without_0)
    print_answer(analysis.synchrony(list(runs), shifts=shifts, **options).to_answer(), json_file)


@analyze.command("compare", cls=Grouped, short_help="Compare two groups of runs.")
@stack([*SHARED])
def analyze_compare(runs: Sequence[str], json_file: Path | None, **options: Any) -> None:
    """Compare two groups of runs, A... -- B..., by layer and in their final losses, with Welch's t-test.

    \b
    lca analyze compare regular-?.zarr -- frozen-?.zarr
    """
    groups = split_groups(runs)
    if len(groups) != 2:
        found = f"{len(groups)} groups"
        raise UsageError("RUN...", expected="two groups of runs with -- between them, A... -- B...", found=found)
    first, second = groups
    print_answer(analysis.compare(first, second, **options).to_answer(), json_file)


@analyze.command("prune", short_help="Prune by LCA, by magnitude and at random.")
@stack([*SHARED])
@click.option(
    "--percent", multiple=True, type=float, help="Percentage of the weights to set to 0. Repeatable.  [50 80 90 95 98]"
)
@argument_options(analysis.prune, {"seed": "Random seed for the random-pruning baseline."})
@device_option
@problem_option
@data_options
def analyze_prune(
    runs: Sequence[str],
    json_file: Path | None,
    percent: Sequence[float],
    device: str,
    problem: str | None,
    data_dir: Path | None,
    download: bool,
    **options: Any,
) -> None:
    """Measure loss and accuracy with only the weights of the most negative LCA left, or the largest, or random ones.

    \b
    lca analyze prune run.zarr --percent 50 --percent 90
    """
    from lca.allocation.evaluation import Evaluator
    from lca.cli.loading import load_problem

    evaluate = Evaluator(load_problem(open_run(runs[0]), problem, data_dir, download), device=device)
    options |= {"pruned": [value / 100 for value in percent]} if percent else {}
    print_answer(analysis.prune(list(runs), evaluate, **options).to_answer(), json_file)


@analyze.command("all", short_help="Every question the stores can answer.")
@stack([*SHARED])
def analyze_all(runs: Sequence[str], json_file: Path | None, **options: Any) -> None:
    """Ask every question that the stores have arrays for, reading each array once where possible.

    \b
    lca analyze all run.zarr --json all.json
    """
    found = analysis.combine(analysis.everything(list(runs), **options))
    for i, answer in enumerate(found.answers):
        click.echo(("\n\n" if i else "") + f"{answer.question.upper()}\n\n{answer}")
    write_json({answer.question: answer.to_json() for answer in found.answers}, json_file)
    for question, lacking in found.unanswered.items():
        click.echo(f"not answered: {question}: {lacking.describe(render)}", err=True)


def print_answer(answer: Answer, json_file: Path | None) -> None:
    """Print an answer, and write it for programs if a file is given."""
    click.echo(str(answer))
    write_json(answer.to_json(), json_file)
