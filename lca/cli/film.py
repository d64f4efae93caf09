"""`lca plot animation RUN --out FILE` and `lca plot report RUN... --out FILE`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lca import figures
from lca.cli.drawing import ITERATIONS, LAYERS, make_look, plot
from lca.cli.errors import render
from lca.cli.options import config_options, keep_given, name_option, run_argument, runs_argument
from lca.cli.output import echo
from lca.errors import UsageError


@plot.command(short_help="Every parameter over time, as a film.")
@run_argument
@name_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Video file to write: .mp4, .webm or .gif.",
)
@config_options(figures.Look, ["title", "colors", LAYERS, ITERATIONS])
@config_options(figures.Film, without=["width", "height"])
@click.option(
    "--size",
    metavar="WxH",
    help=f"Size of the film in pixels, two even numbers.  [default: {figures.Film().width}x{figures.Film().height}]",
)
def animation(path: str, name: str, out: Path, size: str | None, **options: Any) -> None:
    """Render the training as a film.

    Each frame shows the LCA of every parameter in one iteration, with each tensor drawn as a matrix, and the loss
    curve below.

    \b
    lca plot animation run.zarr --iterations 0:220 --out training.mp4
    """
    look = make_look(options)
    film = figures.Film(**keep_given(options), **(parse_size(size) if size else {}))
    n = figures.animation(path, out, look, film, name=name)
    echo(f"{out}: {n:,} frames, {n / film.fps:.1f} s")


def parse_size(text: str) -> dict[str, int]:
    """Parse the size of a film: "1280x720" -> {"width": 1280, "height": 720}."""
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise UsageError("size", expected="WxH, such as 1280x720", found=repr(text))
    return {"width": int(width), "height": int(height)}


@plot.command(short_help="Interactive page with all answers.")
@runs_argument
@name_option
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="HTML page to write (.html)."
)
@config_options(figures.Look, ["title", "colors"])
def report(runs: Sequence[str], name: str, out: Path, **options: Any) -> None:
    """Write an interactive page about one or more runs.

    The page contains everything it needs, so it can be opened from disk without a network connection.

    \b
    lca plot report run.zarr --out report.html
    """
    figures.report(list(runs), out, make_look(options), name=name, render_remedy=render)
    echo(str(out))
