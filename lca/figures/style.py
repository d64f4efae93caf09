"""The look of figures: colors, sizes, the layers and iterations that are shown, and how a figure is saved."""

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
from lca.store.local import whole_file

INK = "#24292f"
SUFFIXES = (".png", ".svg", ".pdf")
DPI = 160  # pixels per inch of a PNG


@dataclass(frozen=True)
class Colors:
    """The colors of a figure.

    Attributes:
        help: Color for LCA below 0, which lowers the loss.
        hurt: Color for LCA above 0, which raises the loss.
        zero: Color for parameters without effect, whose LCA is 0.
        others: Colors for anything without a sign, such as groups of runs.
    """

    help: str
    hurt: str
    zero: str = "#e9e6df"
    others: tuple[str, ...] = ("#3b6fb6", "#e08214", "#5aae61", "#8073ac", "#bf5b17", "#666666")

    @property
    def map(self) -> Colormap:
        """The diverging color map from ``help`` through white (0) to ``hurt``, with gray for missing values."""
        colors = LinearSegmentedColormap.from_list("lca", [self.help, "#ffffff", self.hurt], N=255)
        return colors.with_extremes(bad="#d9d9d9")

    def by_sign(self, values: Iterable[float]) -> list[str]:
        """Return a color for each value: ``help`` below 0, otherwise ``hurt``."""
        return [self.help if value < 0 else self.hurt for value in values]


COLORS = {
    "green-red": Colors("#2a9d4e", "#d1495b"),
    "blue-orange": Colors(
        "#2166ac", "#e66101", others=("#1b9e77", "#7570b3", "#a6761d", "#666666", "#e7298a", "#66a61e")
    ),
}
STYLES: dict[str, dict[str, Any]] = {
    "paper": {"font.size": 7, "axes.linewidth": 0.5, "lines.linewidth": 0.9},
    "screen": {"font.size": 10, "axes.linewidth": 0.8, "lines.linewidth": 1.4},
}
SCALES = {"paper": 0.55, "screen": 1.0}  # scale factors of figures: 7.2 inches become a column of 4 inches


@configuration
class Look:
    """How a figure is drawn, and which layers and iterations it shows.

    Attributes:
        title: Title of the figure. By default, it names the problem and the loss.
        colors: Colors for LCA that helps and LCA that hurts, ``"green-red"`` or ``"blue-orange"``.
        layers: Glob that the names of the layers to show must match. Figures without layers ignore it.
        iterations: First iteration to show and the iteration to stop before. ``None`` stands for the start or the end
            of the run. Figures without a time axis ignore it.
        style: Size of the figure and its text, ``"screen"`` or ``"paper"`` for one column of a paper.

    Raises:
        UsageError: ``colors`` or ``style`` is unknown, or ``iterations`` is not a pair.

    Example:
        >>> look = lca.figures.Look(title="MNIST", layers="fc*", iterations=(0, 200), style="paper")
        >>> lca.figures.layers("run.zarr", look)
    """

    title: str | None = option(
        default=None, help="Title of the figure, film or page.", unset="the problem and the loss"
    )
    colors: str = option(
        default="green-red", choices=tuple(COLORS), help="Colors for LCA that helps and LCA that hurts, in that order."
    )
    layers: str = option(default="*", metavar="GLOB", help="Show only the layers whose names match this glob.")
    iterations: tuple[int | None, int | None] = option(
        default=(None, None),
        metavar="A:B",
        help="Show only the iterations from A up to, but not including, B.",
        unset="all",
    )
    style: str = option(
        default="screen",
        choices=tuple(STYLES),
        help="Size of the figure and its text: for a screen, or for one column of a paper.",
    )

    def __post_init__(self) -> None:
        ends = self.iterations
        if not (isinstance(ends, tuple | list) and len(ends) == 2 and all(isinstance(e, int | None) for e in ends)):
            raise UsageError("iterations", expected="a pair (begin, end) of integers or None", found=repr(ends))

    @property
    def palette(self) -> Colors:
        """The colors that `colors` selects."""
        return COLORS[self.colors]

    def choose_layers(self, layers: Sequence[str]) -> list[int]:
        """Return the indices of the layers to show.

        Args:
            layers: Names of all layers.

        Returns:
            The indices of the layers whose names match the glob.

        Raises:
            UsageError: No layer matches.
        """
        found = [i for i, layer in enumerate(layers) if fnmatchcase(layer, self.layers)]
        if not found:
            raise UsageError(f"no layer matches {self.layers!r}", remedy=f"The layers are {', '.join(layers)}.")
        return found

    def choose_iterations(self, T: int) -> slice:
        """Return the range of iterations to show.

        Args:
            T: Number of iterations of the run.

        Returns:
            A slice with integer ends between 0 and T.

        Raises:
            UsageError: The range contains no iteration of the run.
        """
        begin, end, _ = slice(*self.iterations).indices(T)
        if begin >= end:
            remedy = f"The run has {T:,} iterations (0 to {T - 1:,})."
            raise UsageError(f"iterations {begin}:{end} select nothing", remedy=remedy)
        return slice(begin, end)

    @contextmanager
    def figure(self, width: float, height: float) -> Iterator[Figure]:
        """Create an empty figure, and apply the style to everything that is drawn in the context.

        Args:
            width: Width in inches on the screen. The paper style makes it smaller.
            height: Height in inches on the screen.

        Yields:
            The empty matplotlib figure.
        """
        scale = SCALES[self.style]
        with use_style(self.style):
            yield StyledFigure(self.style, figsize=(scale * width, scale * height), layout="constrained")


DEFAULT = Look()


@contextmanager
def use_style(name: str) -> Iterator[None]:
    """Apply a style to the figures that are created and drawn in the context."""
    rest = {"savefig.facecolor": "white", "text.color": INK, "axes.labelcolor": INK, "svg.fonttype": "none"}
    parameters: Any = {**rest, **STYLES[name]}
    with rc_context(parameters):
        yield


class StyledFigure(Figure):
    """A figure that applies its style again when it is drawn, because matplotlib creates some artists only then."""

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
    """Raise UsageError unless the file name ends with one of the suffixes."""
    if path.suffix.lower() not in suffixes:
        expected = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise UsageError(f"suffix of {path.name!r}", expected=expected, found=path.suffix or "none")


def save(figure: Figure, path: Path | str, dpi: int = DPI) -> None:
    """Write a figure to a PNG, SVG or PDF file.

    Args:
        figure: Figure to write.
        path: Path of the file. The suffix selects the format, and missing folders are created.
        dpi: Resolution of a PNG, in pixels per inch.

    Raises:
        UsageError: The suffix is not .png, .svg or .pdf.

    Example:
        >>> lca.figures.save(lca.figures.layers("run.zarr"), "layers.pdf")
    """
    path = Path(path)
    require_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=dpi)
