"""The commands: parse, one library call, one summary. torch and matplotlib are imported where they are used."""

from pathlib import Path

import click

from lca.cli_allocate import allocate, check
from lca.cli_analyze import analyze
from lca.cli_plot import plot
from lca.errors import UsageError
from lca.shell import Shell, TrainOption, command_line, data_options, given, open_run, run_argument
from lca.text import describe_run, describe_verdict


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
@click.option("--out", required=True, type=click.Path(), help="The run store to make, a path or a URL.")
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
    out: str,
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
    from lca.location import locate
    from lca.problem import load
    from lca.training import TrainConfig, train
    from lca.zoo.presets import recipe

    config = TrainConfig(**recipe(problem, given(options)))
    loaded = load(problem, data_dir=data_dir, download=download, seed=config.seed)
    if resume and not locate(out).is_free() and open_run(out).status == "complete":
        click.echo(f"{out} is finished already; there is nothing to resume.", err=True)
    run = train(loaded, out, config, overwrite=overwrite, resume=resume, command=command_line(), progress=True)
    click.echo(describe_run(run))


@main.command()
@run_argument
def info(path: str) -> None:
    """What RUN holds, how far it is, how large it is, and the command that made it."""
    click.echo(describe_run(open_run(path)))


@main.command()
@run_argument
@click.option("--repair", is_flag=True, help="Mark what is damaged as not done, so that the same command redoes it.")
@click.pass_context
def verify(context: click.Context, /, path: str, repair: bool) -> None:
    """Read every chunk of RUN and check it: checksums, shapes, the parameter table, the iterates, what is done.

    Exits with 1, and a list, if anything is wrong.

    \b
    lca verify run.zarr --repair
    """
    from lca.verify import verify

    verdict = verify(path, repair)
    click.echo(describe_verdict(verdict, path))
    if verdict.findings:
        context.exit(1)


for command in (allocate, check, analyze, plot):
    main.add_command(command)
