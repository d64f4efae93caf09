"""`lca analyze QUESTION RUN...`: one command per question, with an option for each argument of its function."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lca import analysis
from lca.analysis.answer import Answer
from lca.cli import output
from lca.cli.errors import render
from lca.cli.help import Group
from lca.cli.options import (
    Decorator,
    RunGroups,
    argument_options,
    data_options,
    device_option,
    json_option,
    name_option,
    problem_option,
    runs_argument,
    split_groups,
    stack,
)
from lca.errors import UsageError
from lca.store.run import open_run
from lca.text import pluralize


@click.group(cls=Group)
def analyze() -> None:
    """Answer a question about one or more allocated runs.

    Each question prints tables and can write them as JSON. For several runs of the same model, the tables show means ±
    standard deviations. Iterations that are not allocated or not finite are excluded and reported. LCA below zero helps
    (lowers the loss), and LCA above zero hurts (raises it).

    \b
    lca analyze layers run.zarr
    """


SHARED = (runs_argument, name_option, json_option)


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

    `helps` and `settings` describe the question's own arguments (see argument_options).
    """

    def command(runs: Sequence[str], json_file: Path | None, **options: Any) -> None:
        print_answer(question(list(runs), **options).to_answer(), json_file)

    options = argument_options(question, helps or {}, **settings)
    analyze.command(name, help=help, short_help=short)(stack([*shared, options])(command))


add_question(
    "helping",
    analysis.helping,
    "Percentage of parameters that help.",
    """Show the percentage of parameters that help.

    In each iteration, the percentage is taken over the parameters with a non-zero LCA. The tables show its average over
    iterations by layer and by tensor, and the notes show how often single parameters help.

    \b
    lca analyze helping run-0.zarr run-1.zarr --json helping.json
    """,
)
add_question(
    "layers",
    analysis.layers,
    "Total LCA of each layer.",
    """Show the total LCA of each layer and its share of the sum over layers.

    The LCA of a layer includes that of its biases and norms. Further tables show the LCA by tensor, over time and, if
    stored, by class.

    \b
    lca analyze layers run.zarr
    """,
)
add_question(
    "neurons",
    analysis.neurons,
    "LCA of each neuron or channel.",
    """Show the neurons or output channels that help and hurt most.

    The LCA of a neuron is the sum over its slice of the kernel, its bias and its part of the norm. The first table
    shows the percentage of neurons in each layer that help.

    \b
    lca analyze neurons run.zarr --json neurons.json
    """,
)
add_question(
    "oscillation",
    analysis.oscillation,
    "How often updates and LCA change sign.",
    """Show how often weight updates, gradients and LCA change sign, by layer.

    Sign changes of the gradient require an allocation made with `--gradient-signs`. To omit them, pass
    `--no-crossings`.

    \b
    lca analyze oscillation run.zarr
    """,
    {"crossings": "Count the sign changes of the gradient, which requires stored gradient signs."},
)
add_question(
    "tails",
    analysis.tails,
    "How heavy-tailed the LCA is.",
    """Show how heavy-tailed the distribution of LCA is.

    Compares the LCA of single parameters in single iterations with a Gaussian, and fits Weibull distributions.

    \b
    lca analyze tails run.zarr
    """,
)
add_question(
    "overfit",
    analysis.overfit,
    "Which layers learn without generalizing.",
    """Show which layers and neurons learn without generalizing.

    Compares the LCA of the training loss with the LCA of the loss on a held-out split, which must be allocated first.

    \b
    lca allocate run.zarr --split val
    lca analyze overfit run.zarr
    """,
    {"against": "Name of the allocation of a held-out split."},
    against={"metavar": "NAME"},
)
add_question(
    "subset",
    analysis.subset,
    "Agreement of subsets with the whole split.",
    """Show how well allocations over subsets of the examples agree with the allocation over the whole split.

    \b
    lca allocate run.zarr --examples 5000 --name subset-5000
    lca analyze subset run.zarr
    """,
    {"against": "Name of an allocation over a subset. Repeatable.  [default: all complete ones of the same split]"},
    against={"metavar": "NAME"},
)
add_question(
    "error",
    analysis.error,
    "How exact the allocations are.",
    """Show how exact the allocations of a run are.

    Prints, for each allocation, the residuals of its sums and the audited error of its parts.

    \b
    lca allocate run.zarr --rule first-order --name first-order --keep tensors
    lca analyze error run.zarr
    """,
    {"names": "Name of an allocation to include. Repeatable.  [default: all complete allocations]"},
    shared=(runs_argument, json_option),
    names={"flag": "--name"},
)
add_question(
    "trend",
    analysis.trend,
    "LCA against a training option.",
    """Show how the LCA of each layer depends on a training option, such as the momentum.

    The runs must differ in this option. Prints the LCA of each layer for each value of the option, and a linear fit.

    \b
    lca analyze trend momentum-?.zarr --option last:momentum --delay
    """,
    {
        "option": "Training option that differs between the runs, such as learning_rate or last:momentum (LAYER:NAME).",
        "layer": "Layers whose LCA is fitted (name, glob, first or last).",
        "delay": "Fit against the delay m/(1 − m) instead of the momentum m.",
    },
    option={"required": True},
)


@analyze.command("synchrony", short_help="Whether layers learn at the same time.")
@stack([*SHARED])
@argument_options(
    analysis.synchrony,
    {
        "by_class": "Also count the peaks of the LCA by class, which requires an allocation made with `--by-class`.",
        "repeats": "Number of random shifts for the chance levels.",
        "seed": "Random seed for the shifts.",
    },
)
@click.option("--without-0", is_flag=True, help="For the chance levels, shift every layer by at least one iteration.")
def analyze_synchrony(runs: Sequence[str], json_file: Path | None, without_0: bool, **options: Any) -> None:
    """Show whether the layers learn in the same iterations more often than by chance.

    Counts the iterations in which every layer has a peak of learning, and the peaks that pairs of layers share. The
    chance levels are the means of these counts after shifting each layer at random by up to two iterations.

    \b
    lca analyze synchrony run.zarr --repeats 500
    """
    shifts = tuple(shift for shift in analysis.SHIFTS if shift or not without_0)
    print_answer(analysis.synchrony(list(runs), shifts=shifts, **options).to_answer(), json_file)


@analyze.command("compare", cls=RunGroups, short_help="Compare two groups of runs.")
@stack([*SHARED])
def analyze_compare(runs: Sequence[str], json_file: Path | None, **options: Any) -> None:
    """Compare two groups of runs, separated by `--`.

    Prints the LCA of each layer and the final losses in both groups, with a p-value for each difference: from a paired
    t-test if both groups have the same seeds, otherwise from Welch's t-test.

    \b
    lca analyze compare regular-?.zarr -- frozen-?.zarr
    """
    groups = split_groups(runs)
    if len(groups) != 2:
        raise UsageError("RUN...", expected="two groups, RUN... -- RUN...", found=pluralize(len(groups), "group"))
    print_answer(analysis.compare(*groups, **options).to_answer(), json_file)


@analyze.command("prune", short_help="Loss after pruning, by LCA or magnitude.")
@stack([*SHARED])
@click.option(
    "--percent",
    multiple=True,
    type=float,
    metavar="P",
    help="Percentage of the weights to set to zero. Repeatable.  [default: 50 80 90 95 98]",
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
    """Show loss and accuracy after pruning by LCA, by magnitude and at random.

    Sets a percentage of the final kernel weights to zero and evaluates the model on the training and validation splits.
    Pruning by LCA keeps the weights that helped most, and pruning by magnitude keeps the largest weights.

    \b
    lca analyze prune run.zarr --percent 50 --percent 90
    """
    from lca.allocation.evaluation import Evaluator
    from lca.cli.loading import load_problem

    evaluate = Evaluator(load_problem(open_run(runs[0]), problem, data_dir, download), device=device)
    options |= {"pruned": [value / 100 for value in percent]} if percent else {}
    print_answer(analysis.prune(list(runs), evaluate, **options).to_answer(), json_file)


@analyze.command("all", short_help="Answers to all questions that apply.")
@stack([*SHARED])
def analyze_all(runs: Sequence[str], json_file: Path | None, **options: Any) -> None:
    """Answer every question for which the runs contain the necessary data, except compare and trend.

    Reads each array only once where possible. Lists the questions that cannot be answered, and why.

    \b
    lca analyze all run.zarr --json all.json
    """
    found = analysis.combine(analysis.everything(list(runs), **options))
    for i, answer in enumerate(found.answers):
        output.print_heading(("\n\n" if i else "") + f"{answer.question.upper()}\n")
        output.print_answer(answer)
    output.write_json({answer.question: answer.to_json() for answer in found.answers}, json_file)
    for question, lacking in found.unanswered.items():
        output.echo(f"not answered: {question}: {lacking.describe(render)}", err=True)


def print_answer(answer: Answer, json_file: Path | None) -> None:
    """Print an answer, and write it as JSON if a file is given."""
    output.print_answer(answer)
    output.write_json(answer.to_json(), json_file)
