"""`lca train PROBLEM --out RUN`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lca.cli.help import Command, Option
from lca.cli.options import config_options, data_options, keep_given, overwrite_option, parse_settings, set_option
from lca.cli.output import echo, get_command_line, print_facts
from lca.errors import UsageError
from lca.store.paths import locate
from lca.store.run import open_run
from lca.store.run_writer import require_free
from lca.training.config import TrainConfig


@click.command(cls=Command)
@click.argument("problem")
@click.option(
    "--out",
    required=True,
    type=click.Path(),
    metavar="RUN",
    cls=Option,
    group="Recording",
    help="Path or URL of the run store to create.",
)
@click.option(
    "--resume", is_flag=True, cls=Option, group="Recording", help="Continue an interrupted run, or start a new one."
)
@overwrite_option("Recording", "Replace an existing run at this path.")
@click.option(
    "--runs",
    type=click.IntRange(1),
    metavar="N",
    cls=Option,
    group="Recording",
    help="Train N runs with consecutive seeds, each written to RUN-SEED.",
)
@config_options(TrainConfig)
@set_option
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
    """Train PROBLEM and record the parameters after every iteration.

    PROBLEM is the name of a built-in problem (see `lca problems`), path/file.py:factory or package.module:factory. The
    output is a run store, which the other commands take as input. To continue an interrupted run, repeat the command
    with `--resume`. The result is the same as without the interruption.

    \b
    lca train digits-fc --optimizer adam --lr 0.002 --epochs 4 --out adam.zarr
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite are mutually exclusive", remedy="Pass one of them.")
    from lca.problem.loading import load
    from lca.problem.zoo.presets import recipe
    from lca.training.loop import train

    config = TrainConfig(**recipe(problem, keep_given(options)))
    places = {config.seed: out}
    if runs is not None:
        places = {seed: number_path(out, seed) for seed in range(config.seed, config.seed + runs)}
    if not resume:  # Check all paths before the first run is trained.
        for place in places.values():
            require_free(place, overwrite)
    for seed, place in places.items():
        loaded = load(problem, options=parse_settings(settings), data_dir=data_dir, download=download, seed=seed)
        if resume and not locate(place).is_free() and open_run(place).status == "complete":
            echo(f"{place} is already complete; nothing to resume.", err=True)
        run = train(
            loaded,
            place,
            replace(config, seed=seed),
            overwrite=overwrite,
            resume=resume,
            command=get_command_line(),
            progress=True,
        )
        print_facts(repr(run))


def number_path(out: str, seed: int) -> str:
    """Return the path of one of several runs: "run.zarr", 3 -> "run-3.zarr"."""
    out = out.rstrip(f"/{os.sep}")
    stem = out.removesuffix(".zarr")
    return f"{stem}-{seed}{'.zarr' if stem != out else ''}"
