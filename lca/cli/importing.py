"""`lca import RUN FILES...`."""

from collections.abc import Sequence
from pathlib import Path

import click

from lca.cli.help import Command, Option
from lca.cli.options import config_options, data_options, keep_given, overwrite_option, parse_settings, set_option
from lca.cli.output import get_command_line, print_facts
from lca.training.config import TrainConfig


@click.command("import", cls=Command)
@click.argument("path", metavar="RUN", type=click.Path())
@click.argument("files", metavar="FILES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@config_options(TrainConfig, ["codec"])
@overwrite_option("Recording", "Replace an existing run at this path.")
@click.option(
    "--problem",
    required=True,
    metavar="PROBLEM",
    cls=Option,
    group="Problem and data",
    help="Problem that defines the model: a built-in name, path/file.py:factory or package.module:factory.",
)
@set_option
@data_options
def import_(
    path: str,
    files: Sequence[Path],
    problem: str,
    settings: Sequence[str],
    codec: str | None,
    overwrite: bool,
    data_dir: Path | None,
    download: bool,
) -> None:
    """Create RUN, a run store, from existing checkpoints.

    FILES are state_dicts (.pt, .pth, .bin, .ckpt or .safetensors) or folders that contain them. Each file becomes one
    iterate, in the order given. Files in a folder are sorted by the numbers in their names. The allocation integrates
    along the straight line between consecutive checkpoints, and its error bounds show how well this integral converged.

    \b
    lca import run.zarr checkpoints/ --problem mine.py:problem
    """
    from lca.problem.loading import load
    from lca.recording.checkpoints import import_checkpoints

    loaded = load(problem, options=parse_settings(settings), data_dir=data_dir, download=download)
    options = keep_given({"codec": codec})
    run = import_checkpoints(path, files, loaded, overwrite=overwrite, command=get_command_line(), **options)
    print_facts(repr(run))
