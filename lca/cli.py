"""The shell: parse, one library call, one summary. torch and matplotlib are imported where they are used."""

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
from lca.text import (
    describe_forecast,
    describe_preflight,
    describe_report,
    describe_run,
    describe_summary,
    describe_verdict,
)

if TYPE_CHECKING:
    from lca.analysis.report import Report
    from lca.preflight import Preflight
    from lca.problem import Problem
    from lca.store import Run

BOUND_FAILED = 3

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
        if default is not None:
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


def runs_argument(command: Command) -> Command:
    return click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))(command)


run_argument = click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
name_option = click.option("--name", default="train", show_default=True, help="The allocation in the store.")
json_option = click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the results here as well."
)
out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The picture: .png, .svg or .pdf by its suffix."
)


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="loss-change-allocation")
def main() -> None:
    """Which parameters learned, and when?

    Loss Change Allocation divides the change of the full training loss among the parameters, iteration by iteration.

    \b
    lca train digits-fc --out run.zarr        record every iterate
    lca allocate run.zarr                     divide the loss change among the parameters
    lca analyze layers run.zarr               ask
    lca plot helping run.zarr --out a.png     look
    """


@main.command()
@click.argument("problem")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run store to make.")
@click.option("--optimizer", cls=TrainOption, type=click.Choice(["sgd", "adam", "rmsprop"]))
@click.option("--lr", "learning_rate", cls=TrainOption, type=float, help="[default: by optimizer]")
@click.option("--momentum", cls=TrainOption, type=float, help="[default: 0.9 for SGD]")
@click.option("--batch-size", cls=TrainOption, type=int)
@click.option("--epochs", cls=TrainOption, type=int, help="Passes over the training split.")
@click.option("--iterations", cls=TrainOption, type=int, help="Steps, instead of epochs.  [default: by problem]")
@click.option("--seed", cls=TrainOption, type=int, help="Of the weights, the order of the data and dropout.")
@click.option("--device", cls=TrainOption)
@click.option(
    "--codec", cls=TrainOption, type=click.Choice(["zstd", "lz4", "pcodec"]), help="Of the iterates; lossless."
)
@click.option("--resume", is_flag=True, help="Go on with the run that is there, or begin.")
@click.option("--overwrite", is_flag=True, help="Replace the run store that is there.")
@data_options
def train(
    problem: str,
    out: Path,
    resume: bool,
    overwrite: bool,
    data_dir: Path | None,
    download: bool,
    **options: float | str | None,
) -> None:
    """Train PROBLEM and record every iterate.

    What was killed goes on with the same command and --resume, and ends with the same iterates.

    \b
    lca train mnist-fc --data-dir ~/data --optimizer adam --lr 0.002 --epochs 4 --out adam.zarr
    """
    if resume and overwrite:
        raise UsageError("give --resume or --overwrite, not both.")
    from lca.problem import load
    from lca.training import TrainConfig, train
    from lca.zoo.presets import recipe

    config = TrainConfig(**recipe(problem, given(options)))
    loaded = load(problem, data_dir=data_dir, download=download, seed=config.seed)
    if resume and out.exists() and _open(out).status == "complete":
        click.echo(f"{out} is finished already; there is nothing to resume.", err=True)
    run = train(loaded, out, config, overwrite=overwrite, resume=resume, command=_command_line(), progress=True)
    _print(describe_run(run))


def pass_options(command: Command) -> Command:
    """What a pass over the split is, for allocate and check."""
    for option in (
        click.option("--device", cls=AllocateOption),
        click.option(
            "--compile/--no-compile", cls=AllocateOption, default=None, help="Run the model through torch.compile."
        ),
        click.option(
            "--precision",
            cls=AllocateOption,
            type=click.Choice(["fp32", "tf32", "bf16"]),
            help="Of products and convolutions; the audit, always in fp32, tells what it costs.",
        ),
        click.option(
            "--channels-last/--no-channels-last",
            cls=AllocateOption,
            default=None,
            help="How images lie in memory.  [default: the faster]",
        ),
        click.option(
            "--batch-size",
            cls=AllocateOption,
            type=int,
            help="Examples at once.  [default: the fastest; 5000 with BatchNorm, where it defines the loss]",
        ),
        click.option(
            "--by-class/--not-by-class", cls=AllocateOption, default=None, help="Keep the LCA of each class as well."
        ),
        click.option(
            "--examples", cls=AllocateOption, type=int, help="Only so many of the split, its classes in proportion."
        ),
        click.option("--iterations", cls=AllocateOption, metavar="A:B:STEP", help="Only those of a slice."),
        click.option("--split", cls=AllocateOption, type=click.Choice(["train", "val", "test"]), help="Whose loss."),
    ):
        command = option(command)
    return command


@main.command()
@run_argument
@pass_options
@click.option("--name", cls=AllocateOption, help="Of the allocation in the store.  [default: the split]")
@click.option("--tolerance", cls=AllocateOption, type=float, help="Of an iteration's residual, in the loss's unit.")
@click.option(
    "--total-tolerance", cls=AllocateOption, type=float, help="Of the cumulative one, as a part of L_T − L_0."
)
@click.option("--max-intervals", cls=AllocateOption, type=int, help="Where halving the step stops.")
@click.option(
    "--rule",
    cls=AllocateOption,
    type=click.Choice(["simpson", "trapezoid", "first-order"]),
    help="The first attempt; Simpson refines the first two.",
)
@click.option("--audit", cls=AllocateOption, type=float, help="Part of the iterations to measure the parts' error on.")
@click.option("--seed", cls=AllocateOption, type=int, help="Of the draws of audited iterations and of examples.")
@click.option("--gradient-signs/--no-gradient-signs", cls=AllocateOption, default=None, help="Keep them, a bit each.")
@click.option(
    "--keep",
    cls=AllocateOption,
    type=click.Choice(["lca", "layers"]),
    help="The LCA of every parameter, or only the sums over tensors.",
)
@click.option("--keep-bits", cls=AllocateOption, type=int, help="Of mantissa in the stored LCA; sums are exact anyway.")
@click.option("--overwrite", is_flag=True, help="Replace the allocation that is there.")
@data_options
@click.pass_context
def allocate(
    context: click.Context,
    /,
    path: Path,
    overwrite: bool,
    data_dir: Path | None,
    download: bool,
    **options: float | str | None,
) -> None:
    """Divide the loss change of every iteration of RUN among its parameters.

    What was killed goes on with the same command. Exits with 3 where a bound on the error does not hold.

    \b
    lca allocate run.zarr --tolerance 1e-4
    torchrun --nproc-per-node=8 -m lca allocate run.zarr
    """
    from lca.allocation import allocate
    from lca.config import AllocateConfig
    from lca.workers import is_first

    config = AllocateConfig(**given(options))
    problem = _problem_of(_open(path), data_dir, download)

    def forecast(checked: "Preflight") -> None:
        click.echo(describe_forecast(checked), err=True)

    summary = allocate(path, problem, config, overwrite=overwrite, progress=True, report=forecast)
    if is_first():
        _print(describe_summary(summary, path))
    if not summary.within_bounds:
        context.exit(BOUND_FAILED)


@main.command()
@run_argument
@pass_options
@data_options
def check(path: Path, data_dir: Path | None, download: bool, **options: float | str | None) -> None:
    """What `lca allocate` would do with RUN: is the loss a function, is its gradient right, how long will it take?

    \b
    lca check run.zarr
    """
    from lca.allocation import check
    from lca.config import AllocateConfig

    config = AllocateConfig(**given(options))
    _print(describe_preflight(check(path, _problem_of(_open(path), data_dir, download), config)))


@main.group()
def analyze() -> None:
    """Ask a question about runs that are allocated."""


@analyze.command("helping")
@runs_argument
@name_option
@json_option
def analyze_helping(runs: Sequence[Path], name: str, json_file: Path | None) -> None:
    """The percentage of parameters that help in an iteration, of those with non-zero LCA.

    \b
    lca analyze helping run-0.zarr run-1.zarr run-2.zarr --json helping.json
    """
    from lca.analysis.helping import report

    _report(report(_open_alike(runs), name), json_file)


@analyze.command("layers")
@runs_argument
@name_option
@json_option
def analyze_layers(runs: Sequence[Path], name: str, json_file: Path | None) -> None:
    """The total LCA of each layer, its biases and norms with its kernel. Below 0 it helped, above it hurt.

    \b
    lca analyze layers run.zarr
    """
    from lca.analysis.layers import report

    _report(report(_open_alike(runs), name), json_file)


@main.group()
def plot() -> None:
    """Draw a figure of runs that are allocated."""


@plot.command("helping")
@run_argument
@name_option
@out_option
def plot_helping(path: Path, name: str, out: Path) -> None:
    """Helped, hurt and zero over the iterations, with the loss on top.

    \b
    lca plot helping run.zarr --out helping.png
    """
    from lca.analysis import helping
    from lca.figures import style
    from lca.figures.helping import draw

    style.require_suffix(out)
    run = _open(path)
    style.save(draw(helping(run, name), _title([run], name)), out)
    _print(str(out))


@plot.command("layers")
@runs_argument
@name_option
@out_option
def plot_layers(runs: Sequence[Path], name: str, out: Path) -> None:
    """The total LCA of each layer as bars; over several runs the mean, with the standard deviation.

    \b
    lca plot layers run-0.zarr run-1.zarr --out layers.pdf
    """
    from lca.analysis import layers
    from lca.figures import style
    from lca.figures.layers import draw

    style.require_suffix(out)
    opened = _open_alike(runs)
    style.save(draw([layers(run, name) for run in opened], _title(opened, name)), out)
    _print(str(out))


@main.command()
@run_argument
def info(path: Path) -> None:
    """What RUN holds, how far it is, how large it is, and the command that made it."""
    _print(describe_run(_open(path)))


@main.command()
@run_argument
@click.option("--repair", is_flag=True, help="Mark what is damaged as not done, so that the same command redoes it.")
@click.pass_context
def verify(context: click.Context, /, path: Path, repair: bool) -> None:
    """Read every chunk of RUN and check it: checksums, shapes, the parameter table, the iterates, what is done.

    Exits with 1, and a list, if anything is wrong.

    \b
    lca verify run.zarr --repair
    """
    from lca.verify import verify

    verdict = verify(path, repair)
    _print(describe_verdict(verdict, path))
    if verdict.findings:
        context.exit(1)


def _open(path: Path) -> "Run":
    from lca.store import open_run

    return open_run(path)


def _open_alike(paths: Sequence[Path]) -> "list[Run]":
    """Runs of the same model, so that they can be averaged."""
    runs = [_open(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        runs[0].parameters.require_same(run.parameters, str(paths[0]), str(path))
    return runs


def _problem_of(run: "Run", data_dir: Path | None, download: bool) -> "Problem":
    from lca.problem import load
    from lca.zoo.presets import PRESETS

    name = run.attributes.get("problem")
    if name not in PRESETS:
        raise LCAError(
            f"{run.path} was not trained on a built-in problem (it names {name!r}), so its model and data are not "
            "known here. Allocate it from Python: lca.allocate(path, problem)."
        )
    return load(name, data_dir=data_dir, download=download)


def _title(runs: "Sequence[Run]", name: str) -> str:
    problem = runs[0].attributes.get("problem", "")
    number = f", {len(runs)} runs" if len(runs) > 1 else ""
    return f"{problem}, LCA of the {name} loss{number}"


def _report(report: "Report", json_file: Path | None) -> None:
    _print(describe_report(report))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")
        _print(str(json_file))


def _command_line() -> str:
    return shlex.join(["lca", *sys.argv[1:]])


def _print(result: str) -> None:
    click.echo(result)
