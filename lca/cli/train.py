"""`lca train PROBLEM --out RUN` and `lca problems`: what can be trained, and how."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lca.cli.options import Command, TrainOption, command_line, data_options, given, json_option, open_run, write_json
from lca.errors import UsageError
from lca.text import describe_problems, describe_run


def optimizer_options(command: Command) -> Command:
    """How the parameters move."""
    for option in reversed(
        (
            click.option("--optimizer", cls=TrainOption, type=click.Choice(["sgd", "adam", "adamw", "rmsprop"])),
            click.option(
                "--lr", "learning_rate", cls=TrainOption, type=float, help="[default: by problem and optimizer]"
            ),
            click.option("--momentum", cls=TrainOption, type=float, help="[default: 0.9 for SGD]"),
            click.option("--nesterov/--no-nesterov", cls=TrainOption, default=None, help="Momentum, for SGD."),
            click.option(
                "--l2", cls=TrainOption, type=float, help="½ l2 ‖θ‖² is added to the training loss, never to the LCA's."
            ),
            click.option(
                "--weight-decay", cls=TrainOption, type=float, help="AdamW's, apart from the loss.  [default: 0.01]"
            ),
            click.option(
                "--schedule",
                cls=TrainOption,
                type=click.Choice(["constant", "step", "cosine"]),
                help="Of the learning rate, which step multiplies with gamma at each milestone.",
            ),
            click.option(
                "--milestone", "milestones", cls=TrainOption, type=float, multiple=True, help="An epoch; several."
            ),
            click.option("--gamma", cls=TrainOption, type=float, help="[default: 0.1]"),
            click.option(
                "--layer",
                "layers",
                cls=TrainOption,
                multiple=True,
                metavar="LAYER:NAME=NUMBER,…",
                help="Another lr, momentum, l2 or weight_decay for a layer: a name, a glob, first or last; several.",
            ),
            click.option(
                "--freeze",
                cls=TrainOption,
                multiple=True,
                metavar="LAYER[@ITERATION]",
                help="A layer that does not move, from the start or from an iteration on; several.",
            ),
        )
    ):
        command = option(command)
    return command


set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the problem, see `lca problems`; several.",
)


@click.command()
@click.argument("problem")
@click.option("--out", required=True, type=click.Path(), help="The run store to make, a path or a URL.")
@set_option
@optimizer_options
@click.option("--batch-size", cls=TrainOption, type=int)
@click.option("--epochs", cls=TrainOption, type=int, help="Passes over the training split.")
@click.option("--iterations", cls=TrainOption, type=int, help="Steps, instead of epochs.  [default: by problem]")
@click.option("--seed", cls=TrainOption, type=int, help="Of the weights, the order of the data and dropout.")
@click.option(
    "--runs", type=click.IntRange(1), help="So many runs of successive seeds: RUN-0, RUN-1, … by their seeds."
)
@click.option("--init-from", cls=TrainOption, metavar="RUN[@ITERATE]", help="Start from an iterate of another run.")
@click.option("--device", cls=TrainOption)
@click.option(
    "--codec", cls=TrainOption, type=click.Choice(["zstd", "lz4", "pcodec"]), help="Of the iterates; lossless."
)
@click.option("--resume", is_flag=True, help="Go on with the run that is there, or begin.")
@click.option("--overwrite", is_flag=True, help="Replace the run store that is there.")
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
    """Train PROBLEM, built in or path/file.py:factory or package.module:factory, and record every iterate.

    What was killed goes on with the same command and --resume, and ends with the same iterates.

    \b
    lca train mnist-fc --data-dir ~/data --optimizer adam --lr 0.002 --epochs 4 --out adam.zarr
    lca train cifar-resnet --freeze last --runs 10 --out frozen.zarr
    lca train cifar-fc --set layers=4 --layer last:lr=0.01,momentum=0 --out fc.zarr
    lca train mine.py:problem --set hidden=64 --iterations 200 --out mine.zarr
    """
    if resume and overwrite:
        raise UsageError("give --resume or --overwrite, not both.")
    from dataclasses import replace

    from lca.problem.loading import load
    from lca.problem.zoo.presets import recipe
    from lca.store.paths import locate
    from lca.training.config import TrainConfig
    from lca.training.loop import train

    config = TrainConfig(**recipe(problem, given(options)))
    places = {config.seed: out}
    if runs is not None:
        places = {seed: numbered(out, seed) for seed in range(config.seed, config.seed + runs)}
    taken = [] if resume or overwrite else [place for place in places.values() if not locate(place).is_free()]
    if taken:  # told before any of them is trained
        raise UsageError(
            f"{taken[0]} exists already; choose another place for the run, or replace it with --overwrite."
        )
    for seed, place in places.items():
        loaded = load(problem, options=parse(settings), data_dir=data_dir, download=download, seed=seed)
        if resume and not locate(place).is_free() and open_run(place).status == "complete":
            click.echo(f"{place} is finished already; there is nothing to resume.", err=True)
        run = train(
            loaded,
            place,
            replace(config, seed=seed),
            overwrite=overwrite,
            resume=resume,
            command=command_line(),
            progress=True,
        )
        click.echo(describe_run(run))


@click.command("import")
@click.argument("path", metavar="RUN", type=click.Path())
@click.argument("files", metavar="FILES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--problem", required=True, help="Whose model they are of: built in, or path/file.py:factory.")
@set_option
@click.option(
    "--codec", type=click.Choice(["zstd", "lz4", "pcodec"]), default="zstd", help="Of the iterates; lossless."
)
@click.option("--overwrite", is_flag=True, help="Replace the run store that is there.")
@data_options
def import_(
    path: str,
    files: Sequence[Path],
    problem: str,
    settings: Sequence[str],
    codec: str,
    overwrite: bool,
    data_dir: Path | None,
    download: bool,
) -> None:
    """Make RUN of checkpoints that exist already: state_dicts (.pt, .safetensors), or folders of them.

    An iterate each, in the order given, in a folder in that of their numbers. Between two of them the path is taken as
    straight, and the certificate of the allocation tells how well its integral converged.

    \b
    lca import run.zarr checkpoints/ --problem mine.py:problem
    """
    from lca.problem.loading import load
    from lca.recording.checkpoints import import_checkpoints

    loaded = load(problem, options=parse(settings), data_dir=data_dir, download=download)
    run = import_checkpoints(path, files, loaded, codec=codec, overwrite=overwrite, command=command_line())
    click.echo(describe_run(run))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def init(file: Path) -> None:
    """Write FILE, a commented problem of your own to begin with, which runs as it is.

    \b
    lca init mine.py
    lca train mine.py:problem --iterations 200 --out mine.zarr
    lca allocate mine.zarr --problem mine.py:problem
    """
    from importlib.resources import files

    if file.suffix != ".py":
        raise UsageError(f"{file} is no Python file; a name such as mine.py was wanted.")
    if file.exists():
        raise UsageError(f"{file} exists already; it is left alone. Choose another name.")
    if set(str(file)) & set("\"'\\\n"):
        raise UsageError(f"{file} has a quote or a backslash in it; a plain name was wanted.")
    shown = shlex.quote(str(file))
    text = files("lca").joinpath("starter.py").read_text(encoding="utf-8")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("FILE", shown), encoding="utf-8")
    click.echo(f"{file}; train it with: lca train {shown}:problem --iterations 200 --out {shlex.quote(file.stem)}.zarr")


@click.command()
@click.argument("names", metavar="[PROBLEM]...", nargs=-1)
@set_option
@json_option
def problems(names: Sequence[str], settings: Sequence[str], json_file: Path | None) -> None:
    """What is built in: data, size, the cost of a pass over the training split, the recipe, and the options.

    \b
    lca problems
    lca problems cifar-fc --set layers=5
    """
    from lca.problem.user_code import list_plugins
    from lca.problem.zoo.catalogue import describe
    from lca.problem.zoo.presets import PRESETS

    if settings and not names:
        raise UsageError("--set goes with a PROBLEM, such as: lca problems cifar-fc --set layers=5")
    entries = [describe(name, parse(settings)) for name in names or PRESETS]
    click.echo(describe_problems(entries, layers=bool(names)))
    added = {} if names else list_plugins()
    if added:
        click.echo(f"\nadded by plug-ins: {', '.join(f'{name} ({where})' for name, where in added.items())}")
    write_json([entry.to_json() for entry in entries], json_file)


def parse(settings: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, … by name."""
    for text in settings:
        if not all(text.partition("=")):
            raise UsageError(f"--set {text}: NAME=VALUE was wanted, such as --set width=0.5.")
    return dict(text.split("=", 1) for text in settings)


def numbered(out: str, seed: int) -> str:
    """ "run.zarr", 3 -> "run-3.zarr"."""
    stem = out.rstrip("/").removesuffix(".zarr")
    return f"{stem}-{seed}{'.zarr' if stem != out.rstrip('/') else ''}"
