"""`lca info RUN` and `lca verify RUN`."""

import click

from lca.cli.errors import render
from lca.cli.help import Command
from lca.cli.options import run_argument
from lca.cli.output import echo, print_facts
from lca.errors import Argument, Call
from lca.store.run import open_run
from lca.store.verify import verify as verify_store


@click.command(cls=Command)
@run_argument
def info(path: str) -> None:
    """Show the contents of RUN, a run store.

    Prints the problem, the training, the number of iterates, the size on disk, the allocations with their progress and
    the command that created the run.

    \b
    lca info run.zarr
    """
    print_facts(repr(open_run(path)))


@click.command(cls=Command)
@run_argument
@click.option(
    "--repair",
    is_flag=True,
    help="Mark damaged chunks as missing, so that resuming the training or repeating the allocation recomputes them.",
)
@click.pass_context
def verify(context: click.Context, /, path: str, repair: bool) -> None:
    """Check RUN, a run store, for damage.

    Reads every chunk and checks the checksums, array shapes, parameter table, iterates and progress. Prints what it
    finds, and exits with status 1 if the run is damaged.

    \b
    lca verify run.zarr --repair
    """
    verdict = verify_store(path, repair)
    echo(str(verdict))
    if verdict.n_repaired:
        resume, repeat = Call("train", path, resume=True), Call("allocate", path)
        echo(f"Recompute iterates with {render(resume)}, and allocations with {render(repeat)}.")
    elif verdict.can_be_repaired:
        echo(f"Mark the damaged chunks as missing with {render(Argument('repair', True))}.")
    if verdict.findings:
        context.exit(1)
