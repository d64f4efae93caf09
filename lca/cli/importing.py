"""`lca import RUN FILES...`."""

from collections.abc import Sequence
from pathlib import Path

import click

from lca.cli.options import config_options, data_options, keep_given, overwrite_option, parse_settings, set_option
from lca.cli.output import get_command_line
from lca.training.config import TrainConfig


@click.command("import")
@click.argument("path", metavar="RUN", type=click.Path())
@click.argument("files", metavar="FILES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--problem", required=True, help="Problem that defines the model: built in, or path/file.py:factory.")
@set_option
@config_options(TrainConfig, ["codec"])
@overwrite_option
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
    """Create RUN from existing checkpoints: state_dicts (.pt, .safetensors), or folders of them.

    Each file becomes one iterate, in the order given; files in a folder are sorted by number. The path between two
    checkpoints is taken as a straight line; the certificate of the allocation shows how well its integral converged.

    \b
    lca import run.zarr checkpoints/ --problem mine.py:problem
    """
    from lca.problem.loading import load
    from lca.recording.checkpoints import import_checkpoints

    loaded = load(problem, options=parse_settings(settings), data_dir=data_dir, download=download)
    options = keep_given({"codec": codec})
    run = import_checkpoints(path, files, loaded, overwrite=overwrite, command=get_command_line(), **options)
    click.echo(repr(run))
