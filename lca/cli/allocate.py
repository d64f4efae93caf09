"""`lca allocate RUN` and `lca check RUN`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lca.allocation.config import AllocateConfig
from lca.cli.errors import render
from lca.cli.options import (
    config_options,
    data_options,
    keep_given,
    overwrite_option,
    problem_option,
    run_argument,
)
from lca.store.run import open_run

if TYPE_CHECKING:
    from lca.allocation.preflight import Preflight

BOUND_FAILED = 3
OF_A_PASS = (
    "split",
    "iterations",
    "examples",
    "by_class",
    "batch_size",
    "channels_last",
    "precision",
    "compile",
    "device",
)


@click.command()
@run_argument
@config_options(AllocateConfig, OF_A_PASS)
@config_options(AllocateConfig, without=OF_A_PASS)
@overwrite_option
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
    **options: Any,
) -> None:
    """Divide the loss change of every iteration of RUN among its parameters.

    To continue an interrupted allocation, repeat the command without --overwrite. Exit status 3: an error bound does
    not hold. Under torchrun the status is 0, because torchrun would take another one for a crash; run the command again
    without torchrun to get it.

    \b
    lca allocate run.zarr --tolerance 1e-4
    lca allocate run.zarr --problem mine.py:problem
    torchrun --nproc-per-node=8 -m lca allocate run.zarr
    """
    from lca.allocation.allocate import allocate
    from lca.allocation.opening import is_finished
    from lca.cli.loading import load_problem
    from lca.runtime.workers import is_first, is_under_torchrun

    config, run = AllocateConfig(**keep_given(options)), open_run(path)
    if not overwrite and is_first() and is_finished(run, config):
        click.echo(f"lca/{config.name} of {path} is finished already; --overwrite replaces it.", err=True)
    loaded = load_problem(run, problem, data_dir, download)

    def print_forecast(checked: "Preflight") -> None:
        notes = [f"note: {note}" for note in checked.notes]
        click.echo("\n".join([checked.describe_forecast(), *notes, *_render_remedies(checked)]), err=True)

    summary = allocate(path, loaded, config, overwrite=overwrite, progress=True, on_preflight=print_forecast)
    if is_first():
        click.echo(str(summary))
    if not summary.within_bounds and not is_under_torchrun():
        context.exit(BOUND_FAILED)


@click.command()
@run_argument
@config_options(AllocateConfig, OF_A_PASS)
@problem_option
@data_options
def check(path: str, problem: str | None, data_dir: Path | None, download: bool, **options: Any) -> None:
    """Check what `lca allocate` would do with RUN: is the loss a function, is its gradient right, what will it cost?

    \b
    lca check run.zarr
    """
    from lca.allocation.allocate import check
    from lca.cli.loading import load_problem

    config, loaded = AllocateConfig(**keep_given(options)), load_problem(open_run(path), problem, data_dir, download)
    checked = check(path, loaded, config)
    click.echo("\n".join([str(checked), *_render_remedies(checked)]))


def _render_remedies(checked: "Preflight") -> list[str]:
    return [f"to write less, see {', '.join(map(render, checked.remedies))}"] if checked.remedies else []
