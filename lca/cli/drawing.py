"""The group `lca plot`, and the functions that its commands use to read options, draw a figure and save it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lca import figures
from lca.cli.help import Group
from lca.cli.options import (
    Decorator,
    argument_options,
    config_options,
    keep_given,
    name_option,
    runs_argument,
    stack,
)
from lca.cli.output import echo
from lca.errors import UsageError
from lca.figures.style import DPI, require_suffix


@click.group(cls=Group)
def plot() -> None:
    """Draw a figure of one or more allocated runs and write it to a file.

    By default, green marks LCA that helps (below zero, lowers the loss), and red marks LCA that hurts (above zero,
    raises the loss).

    \b
    lca plot helping run.zarr --out helping.png
    """


LOOK = ("title", "style", "colors")
LAYERS, ITERATIONS = "layers", "iterations"
ALL_OF_LOOK = (*LOOK, LAYERS, ITERATIONS)


def look_options(*names: str) -> Decorator:
    """Add the options for the fields of figures.Look that all figures share, and for the fields in `names`."""
    return config_options(figures.Look, (*LOOK, *names))


def make_look(options: dict[str, Any]) -> figures.Look:
    """Remove the fields of figures.Look from `options`, and return the Look that they describe."""
    given = keep_given({name: options.pop(name, None) for name in ALL_OF_LOOK})
    if ITERATIONS in given:
        given[ITERATIONS] = parse_range(given[ITERATIONS])
    return figures.Look(**given)


def parse_range(text: str) -> tuple[int | None, int | None]:
    """Parse a range of iterations: "0:200" -> (0, 200), "400:" -> (400, None)."""
    begin, colon, end = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (begin, end)):
        raise UsageError("iterations", expected="A:B, such as 0:200 or 400:", found=repr(text))
    return int(begin) if begin else None, int(end) if end else None


OUT = stack(
    [
        click.option(
            "--out",
            required=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="File to write: .png, .svg or .pdf.",
        ),
        click.option(
            "--dpi",
            default=DPI,
            show_default=True,
            type=click.IntRange(1, 1200),
            metavar="N",
            help="Resolution of a .png, in dots per inch.",
        ),
    ]
)
SHARED = (runs_argument, name_option, OUT)


def draw(figure: Callable[..., Any], runs: Any, name: str, out: Path, dpi: int, options: dict[str, Any]) -> None:
    """Draw a figure and write it to `out`. `runs` is a list of runs, or a mapping from labels to groups of runs."""
    require_suffix(out)
    figures.save(figure(runs, make_look(options), name=name, **options), out, dpi)
    echo(str(out))


def add_figure(
    name: str,
    figure: Callable[..., Any],
    short: str,
    help: str,
    look: Sequence[str] = (),
    helps: Mapping[str, str] | None = None,
    shared: Sequence[Decorator] = SHARED,
    **settings: Any,
) -> None:
    """Add a command that draws a figure.

    `look` names the fields of figures.Look that apply to this figure, in addition to those that apply to all figures.
    `helps` and `settings` describe the figure's own arguments (see argument_options).
    """

    def command(runs: Sequence[str], name: str, out: Path, dpi: int, **options: Any) -> None:
        draw(figure, list(runs), name, out, dpi, options)

    options = [look_options(*look), argument_options(figure, helps or {}, **settings)]
    plot.command(name, help=help, short_help=short)(stack([*shared, *options])(command))
