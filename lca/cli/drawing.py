"""What the commands of `lca plot` share: the group, the options of a look, and how a figure is drawn and saved."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lca import figures
from lca.cli.options import (
    Decorator,
    argument_options,
    config_options,
    keep_given,
    name_option,
    runs_argument,
    stack,
    unconverged_option,
)
from lca.errors import UsageError
from lca.figures.style import DPI, require_suffix


@click.group()
def plot() -> None:
    """Draw a figure of allocated runs. Green helps, red hurts."""


LOOK = ("title", "style", "colors")
LAYERS, ITERATIONS = "layers", "iterations"
OF_A_LOOK = (*LOOK, LAYERS, ITERATIONS)


def look_options(*names: str) -> Decorator:
    """The options of a Look: those that all figures have, and these."""
    return config_options(figures.Look, (*LOOK, *names))


def make_look(options: dict[str, Any]) -> figures.Look:
    """Take the options of a Look out of those of a command."""
    given = keep_given({name: options.pop(name, None) for name in OF_A_LOOK})
    if ITERATIONS in given:
        given[ITERATIONS] = parse_range(given[ITERATIONS])
    return figures.Look(**given)


def parse_range(text: str) -> tuple[int | None, int | None]:
    """ "A:B" -> its ends."""
    begin, colon, end = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (begin, end)):
        raise UsageError("iterations", expected="A:B, such as 0:200 or 400:", found=repr(text))
    return int(begin) if begin else None, int(end) if end else None


OUT = stack(
    [
        click.option(
            "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Picture: .png, .svg or .pdf."
        ),
        click.option(
            "--dpi",
            default=DPI,
            show_default=True,
            type=click.IntRange(1),
            help="Resolution of a .png, in dots per inch.",
        ),
    ]
)
SHARED = (runs_argument, name_option, unconverged_option, OUT)


def draw(figure: Callable[..., Any], runs: Any, name: str, out: Path, dpi: int, options: dict[str, Any]) -> None:
    """Draw a figure of runs, or of groups of them by label, and write the file."""
    require_suffix(out)
    figures.save(figure(runs, make_look(options), name=name, **options), out, dpi)
    click.echo(str(out))


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

    look: which of layers and iterations the figure heeds. helps, settings: of its own arguments, see argument_options.
    """

    def command(runs: Sequence[str], name: str, out: Path, dpi: int, **options: Any) -> None:
        draw(figure, list(runs), name, out, dpi, options)

    options = [look_options(*look), argument_options(figure, helps or {}, **settings)]
    plot.command(name, help=help, short_help=short)(stack([*shared, *options])(command))
