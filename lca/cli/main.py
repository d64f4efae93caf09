"""The commands: parse, one library call, one summary. torch and matplotlib are imported where they are used."""

import click

from lca.cli.allocate import allocate, check
from lca.cli.analyze import analyze
from lca.cli.film import animation, report
from lca.cli.options import Shell, open_run, run_argument
from lca.cli.plot import plot
from lca.cli.train import import_, init, problems, train
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
    from lca.store.verify import verify

    verdict = verify(path, repair)
    click.echo(describe_verdict(verdict, path))
    if verdict.findings:
        context.exit(1)


for film in (animation, report):
    plot.add_command(film)
for command in (train, problems, init, import_, allocate, check, analyze, plot):
    main.add_command(command)
