"""`lca plot FIGURE RUN... --out FILE`: one command a figure."""

from collections.abc import Sequence
from pathlib import Path

import click

from lca.shell import name_option, open_alike, open_run, out_option, run_argument, runs_argument, title


@click.group()
def plot() -> None:
    """Draw a figure of runs that are allocated."""


@plot.command("helping")
@run_argument
@name_option
@out_option
def plot_helping(path: str, name: str, out: Path) -> None:
    """Helped, hurt and zero over the iterations, with the loss on top.

    \b
    lca plot helping run.zarr --out helping.png
    """
    from lca.analysis import helping
    from lca.figures import style
    from lca.figures.helping import draw

    style.require_suffix(out)
    run = open_run(path)
    style.save(draw(helping(run, name), title([run], name)), out)
    click.echo(str(out))


@plot.command("layers")
@runs_argument
@name_option
@out_option
def plot_layers(runs: Sequence[str], name: str, out: Path) -> None:
    """The total LCA of each layer as bars; over several runs the mean, with the standard deviation.

    \b
    lca plot layers run-0.zarr run-1.zarr --out layers.pdf
    """
    from lca.analysis import layers
    from lca.figures import style
    from lca.figures.layers import draw

    style.require_suffix(out)
    opened = open_alike(runs)
    style.save(draw([layers(run, name) for run in opened], title(opened, name)), out)
    click.echo(str(out))
