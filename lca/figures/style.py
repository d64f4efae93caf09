"""How figures look: colours, sizes, what of a run is shown, and how a figure gets into a file."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from lca.config import configuration, option
from lca.errors import UsageError

INK = "#24292f"
SUFFIXES = (".png", ".svg", ".pdf")
DPI = 160  # pixels per inch of a PNG


@dataclass(frozen=True)
class Colours:
    """The colours of what helps, hurts and does neither; others: of things that are neither, such as groups of runs."""

    help: str
    hurt: str
    zero: str = "#e9e6df"
    others: tuple[str, ...] = ("#3b6fb6", "#e08214", "#5aae61", "#8073ac", "#bf5b17", "#666666")

    @property
    def map(self) -> Colormap:
        """From help over white, which is 0, to hurt; grey where there is no value."""
        colours = LinearSegmentedColormap.from_list("lca", [self.help, "#ffffff", self.hurt], N=255)
        return colours.with_extremes(bad="#d9d9d9")

    def by_sign(self, values: Iterable[float]) -> list[str]:
        """The colour of each value: help below 0, else hurt."""
        return [self.help if value < 0 else self.hurt for value in values]


COLOURS = {
    "green-red": Colours("#2a9d4e", "#d1495b"),
    "blue-orange": Colours(
        "#2166ac", "#e66101", others=("#1b9e77", "#7570b3", "#a6761d", "#666666", "#e7298a", "#66a61e")
    ),
}
STYLES: dict[str, dict[str, Any]] = {
    "paper": {"font.size": 7, "axes.linewidth": 0.5, "lines.linewidth": 0.9},
    "screen": {"font.size": 10, "axes.linewidth": 0.8, "lines.linewidth": 1.4},
}
SCALES = {"paper": 0.55, "screen": 1.0}  # of a figure's size, so that 7.2 inches become a column's 4


@configuration
class Look:
    """How a figure is drawn, and which layers and iterations it shows, if it shows several."""

    title: str | None = option(default=None, help="Title of the figure.", unset="the problem and the loss")
    colors: str = option(
        default="green-red", choices=tuple(COLOURS), help="Colours of what helps and of what hurts, in this order."
    )
    layers: str = option(default="*", metavar="GLOB", help="Show only the layers whose names match this glob.")
    iterations: tuple[int | None, int | None] = option(
        default=(None, None),
        metavar="A:B",
        help="Show only the iterations from A up to, but not including, B.",
        unset="all",
    )
    style: str = option(
        default="screen", choices=tuple(STYLES), help="Size of figure and text: for a screen, or for a paper's column."
    )

    def __post_init__(self) -> None:
        ends = self.iterations
        if not (isinstance(ends, tuple | list) and len(ends) == 2 and all(isinstance(e, int | None) for e in ends)):
            raise UsageError("iterations", expected="a pair (begin, end) of integers or None", found=repr(ends))

    @property
    def colours(self) -> Colours:
        """The colours that `colors` names."""
        return COLOURS[self.colors]

    def choose_layers(self, layers: Sequence[str]) -> list[int]:
        """The indices of the layers that are shown."""
        found = [i for i, layer in enumerate(layers) if fnmatchcase(layer, self.layers)]
        if not found:
            raise UsageError(f"no layer matches {self.layers!r}", remedy=f"The layers are {', '.join(layers)}.")
        return found

    def choose_iterations(self, T: int) -> slice:
        """The iterations that are shown, of T."""
        begin, end, _ = slice(*self.iterations).indices(T)
        if begin >= end:
            raise UsageError(f"iterations {begin}:{end} are none", remedy=f"The run has {T:,}, 0 to {T - 1:,}.")
        return slice(begin, end)

    @contextmanager
    def figure(self, width: float, height: float) -> Iterator[Figure]:
        """An empty figure, in inches on the screen. What is drawn on it in the context has the style."""
        scale = SCALES[self.style]
        with use_style(self.style):
            yield StyledFigure(self.style, figsize=(scale * width, scale * height), layout="constrained")


DEFAULT = Look()


@contextmanager
def use_style(name: str) -> Iterator[None]:
    """Give the style to figures that are made and drawn in the context."""
    rest = {"savefig.facecolor": "white", "text.color": INK, "axes.labelcolor": INK, "svg.fonttype": "none"}
    parameters: Any = {**rest, **STYLES[name]}
    with rc_context(parameters):
        yield


class StyledFigure(Figure):
    """A figure that has its style also when it is drawn, because matplotlib makes a part of it only then."""

    def __init__(self, style: str, **options: Any) -> None:
        super().__init__(**options)
        self.style = style

    def draw(self, renderer: RendererBase) -> None:
        with use_style(self.style):
            super().draw(renderer)

    def savefig(self, *arguments: Any, **options: Any) -> None:
        with use_style(self.style):
            super().savefig(*arguments, **options)


def require_suffix(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise UsageError unless the name of the file ends with one of the suffixes."""
    if path.suffix.lower() not in suffixes:
        expected = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise UsageError(f"suffix of {path.name!r}", expected=expected, found=path.suffix or "none")


def save(figure: Figure, path: Path | str, dpi: int = DPI) -> None:
    """Write a figure as PNG, SVG or PDF.

    Args:
        figure: The figure.
        path: Where to write it; the suffix decides the format, and folders are made as needed.
        dpi: Pixels per inch of a PNG.

    Raises:
        UsageError: The suffix is not .png, .svg or .pdf.

    Example:
        >>> lca.figures.save(lca.figures.layers("run.zarr"), "layers.pdf")
    """
    path = Path(path)
    require_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
