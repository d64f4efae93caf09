"""`lca plot animation RUN --out FILE` and `lca plot report RUN... --out FILE`: what moves, and what answers clicks."""

from collections.abc import Sequence
from pathlib import Path

import click

from lca.cli.drawing import ITERATIONS, LAYERS, slice_of
from lca.cli.options import name_option, open_alike, run_argument, runs_argument, unconverged_option
from lca.errors import UsageError


@click.command()
@run_argument
@name_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The film: .mp4, .webm or .gif.")
@LAYERS
@ITERATIONS
@click.option("--every", default=1, show_default=True, help="Show one of so many iterations.")
@click.option("--smooth", default=1, show_default=True, help="The mean of so many iterations, up to each.")
@click.option("--fps", default=24, show_default=True, help="Frames a second.")
@click.option("--size", default="1280x720", show_default=True, metavar="WxH", help="In pixels.")
@click.option("--title", help="[default: the problem and the loss]")
@click.option("--colors", type=click.Choice(["green-red", "blue-orange"]), default="green-red", show_default=True)
def animation(
    path: str,
    name: str,
    out: Path,
    layers: str,
    iterations: str | None,
    every: int,
    smooth: int,
    fps: int,
    size: str,
    title: str | None,
    colors: str,
) -> None:
    """The training as a film: the LCA of every parameter, each layer as a matrix, with the loss beneath.

    \b
    lca plot animation run.zarr --iterations 0:220 --out training.mp4
    """
    from lca import figures

    width, x, height = size.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"size is {size!r}; WxH was wanted, such as 1280x720.")
    (run,) = open_alike([path])
    heading = figures.heading([run], name) if title is None else title
    look = figures.Look(heading, figures.COLOURS[colors], layers, slice_of(iterations))
    n = figures.animation(run, out, look, figures.Film(fps, every, smooth, int(width), int(height)), name)
    click.echo(f"{out}: {n:,} frames, {n / fps:.1f} s")


@click.command()
@runs_argument
@name_option
@unconverged_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The page, .html.")
@click.option("--title", help="[default: the problem and the loss]")
@click.option("--colors", type=click.Choice(["green-red", "blue-orange"]), default="green-red", show_default=True)
def report(runs: Sequence[str], name: str, unconverged: bool, out: Path, title: str | None, colors: str) -> None:
    """One page that tells the story of a run, or of several side by side; it opens from disk, without network.

    \b
    lca plot report run.zarr --out report.html
    """
    from lca import figures

    opened = open_alike(runs)
    look = figures.Look(figures.heading(opened, name) if title is None else title, figures.COLOURS[colors])
    figures.report(opened, out, look, name, unconverged)
    click.echo(str(out))
