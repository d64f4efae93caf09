"""`lca problems` and `lca init`: the built-in problems, and a template for other problems."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lca.cli.help import Command
from lca.cli.options import json_option, parse_settings, set_option
from lca.cli.output import echo, print_facts, print_table, write_json
from lca.errors import UsageError
from lca.store.local import whole_file
from lca.text import facts, pluralize, quote
from lca.training.config import TrainConfig

if TYPE_CHECKING:
    from lca.problem.zoo.catalog import Entry
    from lca.problem.zoo.presets import Option


@click.command(cls=Command)
@click.argument("names", metavar="[PROBLEM]...", nargs=-1)
@set_option
@json_option
def problems(names: Sequence[str], settings: Sequence[str], json_file: Path | None) -> None:
    """List the built-in problems.

    Prints the dataset, the numbers of examples and parameters, the cost of a pass over the training split, the default
    training settings and the options of every problem. With one or more PROBLEMs, prints only those, with the names
    of their layers.

    \b
    lca problems cifar-fc --set layers=5
    """
    if settings and not names:
        raise UsageError("--set requires a PROBLEM", remedy="For example: lca problems cifar-fc --set layers=5")
    from lca.problem.user_code import list_plugins
    from lca.problem.zoo.catalog import describe
    from lca.problem.zoo.presets import PRESETS

    entries = [describe(name, parse_settings(settings)) for name in names or PRESETS]
    print_problems(entries, layers=bool(names))
    added = {} if names else list_plugins()
    if added:
        echo(f"\nadded by plug-ins: {', '.join(f'{name} ({where})' for name, where in added.items())}")
    write_json([entry.to_json() for entry in entries], json_file)


def print_problems(entries: "Sequence[Entry]", layers: bool = False) -> None:
    """Print a table of problems, their options and, on request, the names of their layers."""
    header = ["problem", "data", "train", "val", "test", "parameters", "GFLOP/pass", "recipe"]
    rows = [
        [
            e.problem,
            e.data,
            *(f"{n:,}" if n else "–" for n in (e.n_train, e.n_val, e.n_test, e.n_parameters)),
            f"{e.pass_gflop:,.3g}" if e.pass_gflop < 100 else f"{e.pass_gflop:,.0f}",
            _describe_recipe(TrainConfig(**e.recipe)),
        ]
        for e in entries
    ]
    print_table(header, rows, left=(0, 1, 7))
    names = [(f"layers of {e.problem}", ", ".join(e.layers)) for e in entries if layers]
    print_facts("\n" + facts(_describe_options(entries) + names))


def _describe_options(entries: "Sequence[Entry]") -> list[tuple[str, str]]:
    """Return a (label, text) pair for each problem option, with its meaning and its value in each problem."""
    from lca.problem.zoo.presets import OPTIONS

    options = []
    for name, meaning in OPTIONS.items():
        matching = [e for e in entries if name in e.options]
        by_default: dict[Option, list[str]] = {}
        for e in matching:
            by_default.setdefault(e.options[name], []).append(e.problem)
        where = "; ".join(
            f"{value} in {'all' if len(names) == len(entries) else ', '.join(names)}"
            for value, names in by_default.items()
        )
        options += [(f"--set {name}=…", f"{meaning}; {where}")] if matching else []
    return options


def _describe_recipe(recipe: TrainConfig) -> str:
    parts = [f"{recipe.optimizer} {recipe.learning_rate:g}"]
    parts += [] if recipe.momentum is None else [f"momentum {recipe.momentum:g}"]
    length = pluralize(recipe.epochs, "epoch") if recipe.epochs else pluralize(recipe.iterations or 0, "iteration")
    return ", ".join([*parts, f"batch {recipe.batch_size:,}", length])


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def init(file: Path) -> None:
    """Write FILE, a template for a problem with your own model and data.

    The template is a commented Python file that defines a small problem, which can be trained without changes.

    \b
    lca init mine.py
    lca train mine.py:problem --iterations 200 --out mine.zarr
    lca allocate mine.zarr --problem mine.py:problem
    """
    if file.suffix != ".py":
        raise UsageError("FILE", expected="the name of a Python file, such as mine.py", found=str(file))
    if file.exists():
        raise UsageError(f"{file} already exists", remedy="Choose another name.")
    if set(file.as_posix()) & set("\"'\\\n"):
        raise UsageError("FILE", expected="a name without quotes, backslashes and line breaks", found=str(file))
    shown = quote(file.as_posix())
    text = files("lca.problem").joinpath("starter.py").read_text(encoding="utf-8")
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as partial:
        partial.write_text(text.replace("FILE", shown), encoding="utf-8")
    run = f"{quote(file.stem)}.zarr"
    echo(f"Created {file}. To train and allocate it:")
    echo(f"lca train {shown}:problem --iterations 200 --out {run}")
    echo(f"lca allocate {run} --problem {shown}:problem")
