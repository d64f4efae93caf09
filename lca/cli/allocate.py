"""`lca allocate RUN` and `lca check RUN`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lca.allocation.config import AllocateConfig
from lca.cli.errors import render
from lca.cli.help import Command
from lca.cli.options import (
    config_options,
    data_options,
    keep_given,
    overwrite_option,
    problem_option,
    run_argument,
)
from lca.cli.output import echo, print_facts
from lca.errors import UsageError
from lca.store.paths import locate
from lca.store.run import open_run

if TYPE_CHECKING:
    from lca.allocation.preflight import Preflight

BOUND_FAILED = 3  # exit status if an error bound does not hold
# Options that affect a pass over the split, and therefore its cost.
PASS_OPTIONS = (
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


@click.command(cls=Command)
@run_argument
@config_options(AllocateConfig)
@overwrite_option("Storage", "Replace an existing allocation of this name.")
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
    """Allocate the loss change of every iteration of RUN to the parameters.

    Writes the allocation into the run store and prints a summary with its error bounds. To continue an interrupted
    allocation, repeat the command without `--overwrite`. To use several processes, start the command with torchrun.

    The exit status is 3 if an error bound does not hold. Under torchrun it is 0 even then, because torchrun treats any
    other status as a crash. Run the command again without torchrun to get the exit status.

    \b
    lca allocate run.zarr --tolerance 1e-4
    torchrun --nproc-per-node=8 -m lca allocate run.zarr --tolerance 1e-4
    """
    from lca.allocation.allocate import allocate
    from lca.allocation.opening import is_finished
    from lca.cli.loading import load_problem
    from lca.runtime.workers import is_first, is_under_torchrun

    config, run = AllocateConfig(**keep_given(options)), open_run(path)
    finished = not overwrite and is_finished(run, config)
    loaded = load_problem(run, problem, data_dir, download)

    def print_forecast(checked: "Preflight") -> None:
        notes = [f"note: {note}" for note in checked.notes]
        echo("\n".join([checked.describe_forecast(), *notes, *_render_remedies(checked)]), err=True)

    summary = allocate(path, loaded, config, overwrite=overwrite, progress=True, on_preflight=print_forecast)
    if finished and is_first():
        echo(f"lca/{config.name} of {path} is already complete; pass --overwrite to replace it.", err=True)
    if is_first():
        print_facts(str(summary), {"bounds": summary.within_bounds})
    if not summary.within_bounds and not is_under_torchrun():
        context.exit(BOUND_FAILED)


@click.command(cls=Command)
@click.argument("path", metavar="RUN|PROBLEM", type=click.Path())
@config_options(AllocateConfig, PASS_OPTIONS)
@problem_option
@data_options
def check(path: str, problem: str | None, data_dir: Path | None, download: bool, **options: Any) -> None:
    """Check whether RUN can be allocated, and forecast the cost.

    Tests that the loss depends only on the parameters and that its gradient is correct. Prints the recorded parameters
    and a forecast of the time and disk space that the allocation needs. Writes nothing.

    To get a forecast before training, pass a problem instead of a run, and the planned number of iterations as
    `--iterations`.

    \b
    lca check run.zarr --batch-size 5000
    lca check digits-fc --iterations 10000
    """
    from lca.allocation.allocate import check
    from lca.allocation.planning import forecast
    from lca.cli.loading import load_problem
    from lca.problem.loading import is_problem, load

    if is_problem(path) and locate(path).is_free():
        planned = options.pop("iterations") or ""
        if not planned.isdecimal():
            raise UsageError(
                "--iterations",
                expected=f"the number of iterations that {path} will be trained for",
                found=repr(planned) if planned else "none",
            )
        loaded = load(path, data_dir=data_dir, download=download)
        checked = forecast(loaded, int(planned), AllocateConfig(**keep_given(options)))
    else:
        config = AllocateConfig(**keep_given(options))
        checked = check(path, load_problem(open_run(path), problem, data_dir, download), config)
    echo("\n".join([str(checked), *_render_remedies(checked)]))


def _render_remedies(checked: "Preflight") -> list[str]:
    return [f"to use less disk space, see {', '.join(map(render, checked.remedies))}"] if checked.remedies else []
