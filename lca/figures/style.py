"""The house look: colours, sizes, scales, and how a figure gets into a file."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lca.errors import UsageError
from lca.store.run import Run

T = TypeVar("T")
Floats = NDArray[np.float64]

INK = "#24292f"
SUFFIXES = (".png", ".svg", ".pdf")
CLIP = 99.0  # percentile of |A| where a colour scale ends, so that a few large values do not make the rest white


@dataclass(frozen=True)
class Colours:
    """Of what helps, hurts and does neither; others: for things that are neither, such as groups of runs."""

    help: str
    hurt: str
    zero: str = "#e9e6df"
    others: tuple[str, ...] = ("#3b6fb6", "#e08214", "#5aae61", "#8073ac", "#bf5b17", "#666666")

    @property
    def map(self) -> Colormap:
        """From help over white, which is 0, to hurt; grey where there is no value."""
        colours = LinearSegmentedColormap.from_list("lca", [self.help, "#ffffff", self.hurt], N=255)
        return colours.with_extremes(bad="#d9d9d9")

    def of(self, values: Iterable[float]) -> list[str]:
        """By the sign of each value."""
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


@dataclass(frozen=True)
class Look:
    """How to draw. Layers and iterations are heeded where the figure has them.

    title: over the figure, such as lca.figures.heading([run]). colours: of COLOURS, or others. layers: a glob of those
    that are shown. iterations: (first, end) of those that are shown. style: "screen", or "paper" for a column's width.
    """

    title: str = ""
    colours: Colours = field(default_factory=lambda: COLOURS["green-red"])
    layers: str = "*"
    iterations: tuple[int | None, int | None] = (None, None)
    style: str = "screen"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise UsageError(f"unknown style {self.style!r}; the known ones are {', '.join(STYLES)}.")

    def chosen(self, layers: Sequence[str]) -> list[int]:
        """Which of the layers are shown."""
        found = [i for i, layer in enumerate(layers) if fnmatchcase(layer, self.layers)]
        if not found:
            raise UsageError(f"no layer is like {self.layers!r}; there are {', '.join(layers)}.")
        return found

    def span(self, T: int) -> slice:
        """Which of the iterations are shown."""
        begin, end, _ = slice(*self.iterations).indices(T)
        if begin >= end:
            raise UsageError(f"iterations {begin}:{end} are none; there are {T:,}, 0 to {T - 1:,}.")
        return slice(begin, end)

    @contextmanager
    def figure(self, width: float, height: float) -> Iterator[Figure]:
        """An empty figure, in inches on the screen. What is put into it in the context has the style."""
        scale = SCALES[self.style]
        with in_style(self.style):
            yield StyledFigure(self.style, figsize=(scale * width, scale * height), layout="constrained")


DEFAULT = Look()


def one_or_more(results: T | Sequence[T]) -> Sequence[T]:
    """Of a single run, or of several."""
    return results if isinstance(results, Sequence) else [results]


def heading(runs: Run | Sequence[Run], name: str = "train") -> str:
    """What a figure of the runs and of their allocation of this name is called, unless a title is given."""
    runs = one_or_more(runs)
    problem = runs[0].attributes.get("problem")
    number = f", {len(runs)} runs" if len(runs) > 1 else ""
    return (f"{problem}, " if problem else "") + f"LCA of the {name} loss{number}"


def tidy(*axes: Axes) -> None:
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK)


def head(axes: Axes, text: str) -> None:
    """The title, at the left and small."""
    axes.set_title(plain(text), loc="left", fontsize="medium")


def plain(text: str) -> str:
    """As matplotlib shows it letter for letter: no mathematics in it, and in a legend also where it begins with "_"."""
    return ("\u2009" if text.startswith("_") else "") + text.replace("$", r"\$")


def line(axes: Axes, x: NDArray[Any], y: NDArray[Any], style: str = "-", **options: Any) -> None:
    """A line with gaps where y is NaN, and a dot for each point that has no neighbour to be joined to."""
    (drawn,) = axes.plot(x, y, style, **options)
    there = np.isfinite(y)
    alone = there & ~np.append(False, there[:-1]) & ~np.append(there[1:], False)
    axes.plot(x[alone], y[alone], ".", color=drawn.get_color(), markersize=4)


def loss_line(axes: Axes, iterates: NDArray[Any], loss: Floats, **options: Any) -> None:
    """The loss where it is known; on a scale from 0, unless there is something below."""
    known = np.isfinite(loss[iterates])
    style = "-" if known.all() else ".-"
    axes.plot(iterates[known], loss[iterates][known], style, color=INK, markersize=4, **options)
    axes.set_ylabel("loss (nats)")
    values = loss[iterates][known]
    if values.size and values.min() >= 0:
        axes.set_ylim(0, 1.05 * max(values.max(), 1e-12))


def name_layers(axes: Axes, names: Sequence[str], vertical: bool = False) -> None:
    """Ticks with the names of layers, turned where they would touch each other."""
    positions = np.arange(len(names))
    names = [plain(name) for name in names]
    if vertical:
        axes.set_yticks(positions, names)
        return
    long = sum(map(len, names)) > 40
    axes.set_xticks(positions, names, rotation=60 if long else 0, ha="right" if long else "center")
    if long:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")


def width_for(names: Sequence[str]) -> float:
    """Inches for a bar for each name."""
    return max(4.8, 1.6 + 0.34 * len(names))


def time_axis(axes: Axes, span: slice, iterates: bool = False) -> None:
    """iterates: whether the one after the last iteration is shown as well."""
    axes.set_xlim(span.start - 0.5, span.stop - 0.5 + iterates)
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def limit_of(values: NDArray[Any]) -> float:
    """The 99th percentile of the sizes that are not 0."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.percentile(sizes, CLIP)) if sizes.size else 1.0


def scale_of(values: NDArray[Any]) -> Normalize:
    """Symmetric about 0, up to limit_of the values."""
    limit = limit_of(values)
    return Normalize(-limit, limit)


def require_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"cannot draw {path.name!r}: its suffix is {path.suffix or 'missing'}; {', '.join(SUFFIXES)} are known."
        )


@contextmanager
def in_style(name: str) -> Iterator[None]:
    """Figures that are made and drawn in the context look so."""
    rest = {"savefig.facecolor": "white", "text.color": INK, "axes.labelcolor": INK, "svg.fonttype": "none"}
    parameters: Any = {**rest, **STYLES[name]}
    with rc_context(parameters):
        yield


class StyledFigure(Figure):
    """A figure that has its style also when it is drawn, as matplotlib makes a part of it only then."""

    def __init__(self, style: str, **options: Any) -> None:
        super().__init__(**options)
        self.style = style

    def draw(self, renderer: RendererBase) -> None:
        with in_style(self.style):
            super().draw(renderer)

    def savefig(self, *arguments: Any, **options: Any) -> None:
        with in_style(self.style):
            super().savefig(*arguments, **options)


def save(figure: Figure, path: Path | str, dpi: int = 160) -> None:
    """Write the figure as PNG, SVG or PDF, by the suffix; folders are made as needed. dpi: pixels an inch, of a PNG."""
    path = Path(path)
    require_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
