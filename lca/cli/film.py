"""`lca plot animation RUN --out FILE` and `lca plot report RUN... --out FILE`: what moves, and what answers clicks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lca import figures
from lca.cli.drawing import ITERATIONS, LAYERS, make_look, plot
from lca.cli.errors import render
from lca.cli.options import config_options, keep_given, name_option, run_argument, runs_argument, unconverged_option
from lca.errors import UsageError


@plot.command(short_help="The training as a film.")
@run_argument
@name_option
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Film: .mp4, .webm or .gif."
)
@config_options(figures.Look, ["title", "colors", LAYERS, ITERATIONS])
@config_options(figures.Film, without=["width", "height"])
@click.option(
    "--size", metavar="WxH", help=f"Size in pixels.  [default: {figures.Film().width}x{figures.Film().height}]"
)
def animation(path: str, name: str, out: Path, size: str | None, **options: Any) -> None:
    """Draw the training as a film: the LCA of every parameter, each layer as a matrix, above the loss.

    \b
    lca plot animation run.zarr --iterations 0:220 --out training.mp4
    """
    look = make_look(options)
    film = figures.Film(**keep_given(options), **(parse_size(size) if size else {}))
    n = figures.animation(path, out, look, film, name=name)
    click.echo(f"{out}: {n:,} frames, {n / film.fps:.1f} s")


def parse_size(text: str) -> dict[str, int]:
    """ "1280x720" -> width and height."""
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise UsageError("size", expected="WxH, such as 1280x720", found=repr(text))
    return {"width": int(width), "height": int(height)}


@plot.command(short_help="One page with all the answers.")
@runs_argument
@name_option
@unconverged_option
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Page: .html.")
@config_options(figures.Look, ["title", "colors"])
def report(runs: Sequence[str], name: str, unconverged: bool, out: Path, **options: Any) -> None:
    """Write one page about a run, or about several side by side; it opens from disk, without a network.

    \b
    lca plot report run.zarr --out report.html
    """
    figures.report(list(runs), out, make_look(options), name=name, unconverged=unconverged, render_remedy=render)
    click.echo(str(out))
