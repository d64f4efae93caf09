"""The house colours, and how a figure gets into a file."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lca.errors import UsageError

HELP = "#2a9d4e"
HURT = "#d1495b"
ZERO = "#e9e6df"
INK = "#24292f"

SUFFIXES = (".png", ".svg", ".pdf")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def require_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"cannot draw {path.name!r}: its suffix is {path.suffix or 'missing'}; {', '.join(SUFFIXES)} are known."
        )


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, SVG or PDF, by the suffix; folders are made as needed."""
    require_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
