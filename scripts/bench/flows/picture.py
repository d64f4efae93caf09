"""The figure that shows the error of the parts against the time per iteration, with one point per method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from lca.figures.axes import set_title, tidy
from lca.figures.style import COLORS, DEFAULT, INK, save

# Candidate positions of a label: offset (x, y) in typographic points and alignment, in order of preference.
PLACES = [
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (6, 7, "left", "bottom"),
    (6, -7, "left", "top"),
    (-6, 7, "right", "bottom"),
    (-6, -7, "right", "top"),
]


@dataclass(frozen=True)
class Point:
    """A method: its seconds per iteration and its error Σ|A − A_ref| / Σ|A_ref| in percent."""

    label: str
    seconds: float
    error: float


def draw(points: Sequence[Point], reference_error: float, title: str, path: Path) -> None:
    """Draw the figure. `reference_error` is the error of the reference itself, in percent."""
    with DEFAULT.figure(7.2, 4.6) as figure:
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        tidy(axes)
        set_title(axes, title)
        axes.set(xscale="log", yscale="log", xlabel="seconds per iteration", ylabel="error of the parts (% of Σ|A|)")
        axes.margins(0.18, 0.15)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        for point in points:
            color = COLORS["green-red"].help if point.label == "lca" else COLORS["green-red"].others[0]
            axes.plot(point.seconds, point.error, "o", color=color, markersize=6)
        line = axes.axhline(reference_error, color=INK, linewidth=0.8, linestyle=":")
        axes.annotate(
            "error of the reference",
            (0, reference_error),  # at the left edge, where no method is this accurate
            (4, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize="small",
        )
        label(axes, points, [line])
        save(figure, path)


def label(axes: Axes, points: Sequence[Point], lines: Sequence[Line2D]) -> None:
    """Label each point at the position that overlaps least with points, lines and other labels."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    dots = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in _pixels(axes, points)]
    written = [artist.get_window_extent().padded(2) for artist in (*axes.texts, *lines)]
    for point in points:
        candidates = [_write(axes, point, *place) for place in PLACES]
        overlaps = [_overlap(text, [*dots, *written], axes.bbox) for text in candidates]
        best = candidates[overlaps.index(min(overlaps))]
        for text in candidates:
            if text is not best:
                text.remove()
        written.append(best.get_window_extent())


def _write(axes: Axes, point: Point, x: float, y: float, ha: str, va: str) -> Annotation:
    return axes.annotate(
        point.label, (point.seconds, point.error), (x, y), textcoords="offset points", ha=ha, va=va, fontsize="small"
    )


def _overlap(text: Annotation, others: Sequence[Bbox], frame: Bbox) -> float:
    """Return the area of a label in square pixels that overlaps with other boxes or lies outside the frame."""
    box = text.get_window_extent()
    shared = [Bbox.intersection(box, other) for other in others]
    inside = Bbox.intersection(box, frame)
    area = sum(each.width * each.height for each in shared if each is not None)
    return area + box.width * box.height - (inside.width * inside.height if inside is not None else 0.0)


def _pixels(axes: Axes, points: Sequence[Point]) -> list[tuple[float, float]]:
    return [tuple(axes.transData.transform((point.seconds, point.error))) for point in points]
