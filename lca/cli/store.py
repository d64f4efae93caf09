"""`lca info RUN` and `lca verify RUN`."""

import click

from lca.cli.errors import render
from lca.cli.options import run_argument
from lca.errors import Argument, Call
from lca.store.run import open_run
from lca.store.verify import verify as verify_store


@click.command()
@run_argument
def info(path: str) -> None:
    """Show what RUN holds, how far it is, its size, and the command that made it.

    \b
    lca info run.zarr
    """
    click.echo(repr(open_run(path)))


@click.command()
@run_argument
@click.option(
    "--repair",
    is_flag=True,
    help="Mark damaged chunks as missing, so that running the command again recomputes them.",
)
@click.pass_context
def verify(context: click.Context, /, path: str, repair: bool) -> None:
    """Read every chunk of RUN and check it: checksums, shapes, the parameter table, the iterates, what is done.

    Exit status 1, after a list of the findings, if anything is wrong.

    \b
    lca verify run.zarr --repair
    """
    verdict = verify_store(path, repair)
    click.echo(str(verdict))
    if verdict.n_repaired:
        resume, repeat = Call("train", path, resume=True), Call("allocate", path)
        click.echo(f"Recompute iterates with {render(resume)}, and allocations with {render(repeat)}.")
    elif verdict.can_be_repaired:
        click.echo(f"{render(Argument('repair', True))} marks what is damaged as not done.")
    if verdict.findings:
        context.exit(1)
