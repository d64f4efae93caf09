"""What the commands of `lca plot` share: the group, the options that figures have, and how one is saved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lca.cli.options import Command, name_option, runs_argument
from lca.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lca.figures import Look
    from lca.store.run import Run


@click.group()
def plot() -> None:
    """Draw a figure of runs that are allocated. Green helps, red hurts."""


@dataclass(frozen=True)
class Drawing:
    """The options that all figures have."""

    out: Path
    dpi: int
    title: str | None
    style: str
    colors: str
    layers: str = "*"
    iterations: str | None = None

    def save(self, runs: "Sequence[Run]", name: str, draw: "Callable[[Look], Figure]") -> None:
        """Draw and write the file."""
        from lca.figures import COLOURS, Look, heading, save
        from lca.figures.style import require_suffix

        require_suffix(self.out)
        title = heading(runs, name) if self.title is None else self.title
        look = Look(title, COLOURS[self.colors], self.layers, slice_of(self.iterations), self.style)
        save(draw(look), self.out, self.dpi)
        click.echo(str(self.out))


def slice_of(text: str | None) -> tuple[int | None, int | None]:
    """ "A:B" -> its ends."""
    begin, colon, end = (":" if text is None else text).partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (begin, end)):
        raise UsageError(f"iterations is {text!r}; A:B was wanted, such as 0:200 or 400:.")
    return int(begin) if begin else None, int(end) if end else None


LOOK_OPTIONS = (
    click.option("--out", required=True, type=click.Path(path_type=Path), help="The picture: .png, .svg or .pdf."),
    click.option("--dpi", default=160, show_default=True, type=click.IntRange(1), help="Pixels an inch, of a .png."),
    click.option("--title", help="[default: the problem and the loss]"),
    click.option(
        "--style", type=click.Choice(["screen", "paper"]), default="screen", show_default=True, help="A column's size."
    ),
    click.option("--colors", type=click.Choice(["green-red", "blue-orange"]), default="green-red", show_default=True),
)
LAYERS = click.option("--layers", default="*", show_default=True, metavar="GLOB", help="Only these.")
ITERATIONS = click.option("--iterations", metavar="A:B", help="Only these.")


def figure(
    name: str, *choices: Callable[[Command], Command], cls: type[click.Command] = click.Command
) -> Callable[[Command], click.Command]:
    """A command on runs; `drawing` has the options that all figures have, and those of the choices that it heeds."""

    def decorate(command: Command) -> click.Command:
        @wraps(command)
        def with_drawing(**options: Any) -> None:
            look = {field.name: options.pop(field.name) for field in fields(Drawing) if field.name in options}
            command(drawing=Drawing(**look), **options)

        decorated: Command = with_drawing
        options: list[Callable[[Command], Command]] = [runs_argument, name_option, *LOOK_OPTIONS, *choices]
        for option in reversed(options):
            decorated = option(decorated)
        return plot.command(name, cls=cls)(decorated)

    return decorate
