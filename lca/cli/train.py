"""`lca train PROBLEM --out RUN`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lca.cli.options import config_options, data_options, keep_given, overwrite_option, parse_settings, set_option
from lca.cli.output import get_command_line
from lca.errors import UsageError
from lca.store.paths import locate
from lca.store.run import open_run
from lca.store.run_writer import require_free
from lca.training.config import TrainConfig


@click.command()
@click.argument("problem")
@click.option("--out", required=True, type=click.Path(), metavar="RUN", help="Run store to create, a path or a URL.")
@set_option
@config_options(TrainConfig)
@click.option(
    "--runs", type=click.IntRange(1), metavar="N", help="Train N runs with consecutive seeds, written to RUN-SEED."
)
@click.option("--resume", is_flag=True, help="Continue an existing run, or start a new one.")
@overwrite_option
@data_options
def train(
    problem: str,
    out: str,
    settings: Sequence[str],
    runs: int | None,
    resume: bool,
    overwrite: bool,
    data_dir: Path | None,
    download: bool,
    **options: Any,
) -> None:
    """Train PROBLEM and record every iterate.

    PROBLEM is a built-in name (see `lca problems`), path/file.py:factory or package.module:factory. To continue an
    interrupted run, repeat the command with --resume; it ends with the same iterates.

    \b
    lca train mnist-fc --data-dir ~/data --optimizer adam --lr 0.002 --epochs 4 --out adam.zarr
    lca train cifar-resnet --freeze last --runs 10 --out frozen.zarr
    lca train cifar-fc --set layers=4 --layer last:lr=0.01,momentum=0 --out fc.zarr
    lca train mine.py:problem --set hidden=64 --iterations 200 --out mine.zarr
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", remedy="Pass one of them.")
    from lca.problem.loading import load
    from lca.problem.zoo.presets import recipe
    from lca.training.loop import train

    config = TrainConfig(**recipe(problem, keep_given(options)))
    places = {config.seed: out}
    if runs is not None:
        places = {seed: number_path(out, seed) for seed in range(config.seed, config.seed + runs)}
    if not resume:  # found out before any of them is trained
        for place in places.values():
            require_free(place, overwrite)
    for seed, place in places.items():
        loaded = load(problem, options=parse_settings(settings), data_dir=data_dir, download=download, seed=seed)
        if resume and not locate(place).is_free() and open_run(place).status == "complete":
            click.echo(f"{place} is finished already, so there is nothing to resume.", err=True)
        run = train(
            loaded,
            place,
            replace(config, seed=seed),
            overwrite=overwrite,
            resume=resume,
            command=get_command_line(),
            progress=True,
        )
        click.echo(repr(run))


def number_path(out: str, seed: int) -> str:
    """ "run.zarr", 3 -> "run-3.zarr"."""
    stem = out.rstrip("/").removesuffix(".zarr")
    return f"{stem}-{seed}{'.zarr' if stem != out.rstrip('/') else ''}"
