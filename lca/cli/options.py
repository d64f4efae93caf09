"""What the commands share: errors, options, how runs are opened and results printed. It imports what is heavy late."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lca.errors import LCAError, UsageError
from lca.text import describe_report

if TYPE_CHECKING:
    from lca.analysis.answer import Report
    from lca.problem.problem import Problem
    from lca.store.run import Run

Command = Callable[..., Any]


class Shell(click.Group):
    """The one place where an expected error becomes a message and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise click.UsageError(str(error)) from error
        except LCAError as error:
            raise click.ClickException(str(error)) from error


class ConfigOption(click.Option):
    """An option whose default is a field of a configuration. It is looked up when help is printed, not before."""

    config = ""

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        module, _, name = self.config.partition(":")
        default = {field.name: field.default for field in fields(getattr(import_module(module), name))}[str(self.name)]
        if default is not None and default != ():
            extra["default"] = str(default)
        return extra


class TrainOption(ConfigOption):
    config = "lca.training:TrainConfig"


class AllocateOption(ConfigOption):
    config = "lca.config:AllocateConfig"


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the user gave; the others have the default of their configuration."""
    return {key: value for key, value in options.items() if value is not None}


def data_options(command: Command) -> Command:
    for option in (
        click.option("--download", is_flag=True, help="Fetch the data set into the data folder if it is not there."),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help="The folder that holds MNIST/raw, FashionMNIST/raw or cifar-10-batches-bin.  "
            "[default: LCA_DATA, else ~/.cache/lca]",
        ),
    ):
        command = option(command)
    return command


problem_option = click.option(
    "--problem",
    metavar="PROBLEM",
    help="path/file.py:factory or package.module:factory, where the run is of a problem of your own.",
)


def runs_argument(command: Command) -> Command:
    return click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path())(command)


run_argument = click.argument("path", metavar="RUN", type=click.Path())  # or a URL, so it stays a string
name_option = click.option("--name", default="train", show_default=True, help="The allocation in the store.")
json_option = click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the results here as well."
)
unconverged_option = click.option(
    "--unconverged", is_flag=True, help="Count the iterations whose residual stayed over the tolerance as well."
)

BETWEEN_GROUPS = "\x1d"  # what `--` becomes, which click would drop: ASCII's group separator, which no path has


class Grouped(click.Command):
    """Takes RUN... -- RUN..., options anywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [BETWEEN_GROUPS if arg == "--" else arg for arg in args])


def grouped(runs: Sequence[str]) -> list[list[str]]:
    """The groups of runs, of a Grouped command; an error if one is empty."""
    groups: list[list[str]] = [[]]
    for run in runs:
        if run == BETWEEN_GROUPS:
            groups.append([])
        else:
            groups[-1].append(run)
    if not all(groups):
        raise UsageError("a group of runs is empty; A... -- B... was wanted, with runs on either side of --.")
    return groups


def open_run(path: Path | str) -> "Run":
    from lca.store.run import open_run

    return open_run(path)


def open_alike(paths: Sequence[Path | str]) -> "list[Run]":
    """Runs of the same model, so that they can be averaged."""
    runs = [open_run(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        runs[0].parameters.require_same(run.parameters, str(paths[0]), str(path))
    return runs


def problem_of(run: "Run", name: str | None, data_dir: Path | None, download: bool) -> "Problem":
    """The problem that a run was trained on: of this name, or else the built-in one that the store names.

    What a store names is never imported: it may be anyone's. Its options, plain values, are passed on.
    """
    from lca.problem.loading import load
    from lca.problem.zoo.presets import PRESETS

    name, stored = name or run.attributes.get("problem"), name is None
    if stored and name not in PRESETS:
        raise LCAError(
            f"{run.path} was not trained on a built-in problem: it names {name!r}. Give the one it was trained on with "
            "--problem path/file.py:factory, or from Python: lca.allocate(path, problem)."
        )
    options = run.attributes.get("problem_options", {})
    if not all(isinstance(value, str | int | float | bool | None) for value in options.values()):
        raise LCAError(f"{run.path} has options of the problem that are no plain values: {options}.")
    seed = run.attributes.get("train", {}).get("seed", 0)  # of weights and buffers that are drawn and not recorded
    return load(str(name), options=options, data_dir=data_dir, download=download, seed=int(seed))


def print_reports(reports: "Sequence[Report]", json_file: Path | None, headings: bool = False) -> None:
    """One after the other; headings: with the question over each. For programs a single one, or all by question."""
    for i, report in enumerate(reports):
        heading = f"{report.question.upper()}\n\n" if headings else ""
        click.echo(("\n\n" if i else "") + heading + describe_report(report))
    values = {report.question: report.to_json() for report in reports}
    write_json(values if headings else values[reports[0].question], json_file)


def write_json(values: Any, json_file: Path | None) -> None:
    """Write what was printed for programs, if a file is given."""
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        click.echo(str(json_file))


def command_line() -> str:
    return shlex.join(["lca", *sys.argv[1:]])
