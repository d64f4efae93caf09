"""`lca allocate RUN` and `lca check RUN`: what a pass over the split is, and what is kept of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lca.cli.options import (
    AllocateOption,
    Command,
    data_options,
    given,
    open_run,
    problem_of,
    problem_option,
    run_argument,
)
from lca.text import describe_forecast, describe_preflight, describe_summary

if TYPE_CHECKING:
    from lca.allocation.preflight import Preflight

BOUND_FAILED = 3


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


@click.command()
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
@problem_option
@data_options
@click.pass_context
def allocate(
    context: click.Context,
    /,
    path: str,
    overwrite: bool,
    problem: str | None,
    data_dir: Path | None,
    download: bool,
    **options: float | str | None,
) -> None:
    """Divide the loss change of every iteration of RUN among its parameters.

    What was killed goes on with the same command, without --overwrite. Exits with 3 where a bound on the error does not
    hold, but not under torchrun, which would take that for a crash: given again without it, the command does.

    \b
    lca allocate run.zarr --tolerance 1e-4
    lca allocate run.zarr --problem mine.py:problem
    torchrun --nproc-per-node=8 -m lca allocate run.zarr
    """
    from lca.allocation.allocate import allocate, is_finished
    from lca.allocation.config import AllocateConfig
    from lca.runtime.workers import is_first, is_under_torchrun

    config, run = AllocateConfig(**given(options)), open_run(path)
    if not overwrite and is_first() and is_finished(run, config):
        click.echo(f"lca/{config.name} of {path} is finished already; --overwrite makes it anew.", err=True)
    loaded = problem_of(run, problem, data_dir, download)

    def forecast(checked: "Preflight") -> None:
        click.echo(describe_forecast(checked), err=True)

    summary = allocate(path, loaded, config, overwrite=overwrite, progress=True, report=forecast)
    if is_first():
        click.echo(describe_summary(summary, path))
    if not summary.within_bounds and not is_under_torchrun():
        context.exit(BOUND_FAILED)


@click.command()
@run_argument
@pass_options
@problem_option
@data_options
def check(path: str, problem: str | None, data_dir: Path | None, download: bool, **options: float | str | None) -> None:
    """What `lca allocate` would do with RUN: is the loss a function, is its gradient right, how long will it take?

    \b
    lca check run.zarr
    """
    from lca.allocation.allocate import check
    from lca.allocation.config import AllocateConfig

    config = AllocateConfig(**given(options))
    click.echo(describe_preflight(check(path, problem_of(open_run(path), problem, data_dir, download), config)))
