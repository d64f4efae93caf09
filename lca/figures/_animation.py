"""Training as a film: the LCA of every parameter, iteration by iteration, with the loss beneath.

[arXiv 1909.01440, section 2.2 and figure 2]
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lca.analysis._tails import Distribution
from lca.analysis.iterations import iterations
from lca.analysis.tiles import feed
from lca.errors import UsageError
from lca.figures.encode import encoder
from lca.figures.matrices import Matrix, Places, matrices
from lca.figures.style import CLIP, DEFAULT, INK, Look, in_style, loss_line, plain, tidy, time_axis
from lca.store.allocation import Allocation
from lca.store.run import Run
from lca.store.summary import read

DPI = 100
CURVE = 0.28  # of the height, for the loss
TITLE, STRIP, GAP = 16, 8, 6  # pixels: of a layer's name, of a vector at most, between two panels
DOT = 5  # radius, in pixels
STRETCH = 3.0  # how far a matrix may be out of proportion, to fill its place

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """How a film is made. every: one of so many iterations is shown. smooth: A is the mean over so many, up to it."""

    fps: int = 24
    every: int = 1
    smooth: int = 1
    width: int = 1280
    height: int = 720

    def __post_init__(self) -> None:
        for name in ("fps", "every", "smooth"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; at least 1 was wanted.")
        if self.width < 160 or self.height < 120 or self.width % 2 or self.height % 2:
            raise UsageError(f"the film is {self.width}×{self.height}; even numbers from 160×120 on were wanted.")


FILM = Film()


def animation(run: Run, path: Path | str, look: Look = DEFAULT, film: Film = FILM, name: str = "train") -> int:
    """Write the film, .mp4, .webm or .gif; how many frames it has. name: of the allocation.

    The style of a look is for figures. Memory is a block of iterations, whatever the length.
    """
    with encoder(Path(path), film.fps, film.width, film.height, film_length(run, look, film)) as write:
        n = 0
        for frame in frames(run, look, film, name):
            write(frame)
            n += 1
    return n


def film_length(run: Run, look: Look, film: Film) -> int:
    """How many frames it has."""
    return len(_shown(run, look, film))


def frames(run: Run, look: Look, film: Film, name: str = "train") -> Iterator[Frame]:
    """The frames, (height, width, 3) each; what does not count is grey."""
    allocation, table = run.allocation(name), run.parameters
    chosen = iterations(allocation, unconverged=True)
    distribution = Distribution(table.size, chosen)
    feed(run, allocation.lca, chosen.counted, [distribution])
    sizes = distribution.result().both
    limit = sizes.percentile(CLIP) if sizes.n else 1.0
    shown = _shown(run, look, film)
    layers = [table.layers[i] for i in look.chosen(table.layers)]
    with in_style("screen"):
        canvas = Canvas(run, read(allocation, "loss"), layers, limit, shown, look, film)
    for t, lca in _smoothed(allocation, shown, film.smooth):
        yield canvas.draw(t, lca)


def _shown(run: Run, look: Look, film: Film) -> range:
    span = look.span(run.n_iterations)
    return range(span.start, span.stop, film.every)


def _smoothed(allocation: Allocation, shown: range, smooth: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(t, the mean A (K,) of iterations t − smooth + 1 … t), a block at a time; NaN where none of them is there."""
    window: deque[NDArray[np.float32]] = deque(maxlen=smooth)
    first = max(shown.start - smooth + 1, 0)
    for span in allocation.iteration_blocks:
        begin, end = max(span.start, first), min(span.stop, shown.stop)
        if begin >= end:
            continue
        rows = np.ascontiguousarray(np.asarray(allocation.lca[:, begin:end]).T)
        for t, row in zip(range(begin, end), rows, strict=True):
            window.append(row)
            if t in shown:
                there = [row for row in window if not np.isnan(row[0])]
                yield t, np.mean(there, axis=0, dtype=np.float64) if there else np.full(len(row), np.nan)


@dataclass(frozen=True)
class Panel:
    """A matrix in its place on the canvas: which rows and columns its pixels show, once `step` of them are averaged."""

    places: Places
    step: tuple[int, int]
    top: int
    left: int
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def fit(cls, matrix: Matrix, left: int, top: int, width: int, height: int) -> "Panel":
        """As large as the place allows, in proportion unless that would waste most of it."""
        h, w = matrix.places.shape
        scale_y, scale_x = height / h, width / w
        scale_y, scale_x = min(scale_y, STRETCH * scale_x), min(scale_x, STRETCH * scale_y)
        step = max(1, ceil(1 / scale_y)), max(1, ceil(1 / scale_x))
        seen = ceil(h / step[0]), ceil(w / step[1])
        pixels = max(1, int(h * scale_y)), max(1, int(w * scale_x))
        rows, columns = (np.arange(p) * s // p for p, s in zip(pixels, seen, strict=True))
        return cls(matrix.places, step, top, left, rows, columns)

    def values(self, lca: NDArray[np.float64]) -> NDArray[np.float64]:
        """lca (K + 1,), whose last is NaN, for places without a parameter -> what is shown."""
        values = lca[self.places]
        for axis, step in enumerate(self.step):
            if step > 1:
                starts = np.arange(0, values.shape[axis], step)
                there = np.add.reduceat(np.isfinite(values), starts, axis=axis, dtype=np.int64)
                sums = np.add.reduceat(np.nan_to_num(values), starts, axis=axis)
                values = np.divide(sums, there, out=np.full(sums.shape, np.nan), where=there > 0)
        return values


class Canvas:
    """What is the same in all frames, and how one is drawn on it."""

    def __init__(
        self,
        run: Run,
        loss: NDArray[np.float64],
        layers: list[str],
        limit: float,
        shown: range,
        look: Look,
        film: Film,
    ) -> None:
        self.loss, self.limit, self.look = loss, limit, look
        self.colours = (255 * look.colours.map(np.arange(255))[:, :3]).round().astype(np.uint8)
        self.colours = np.concatenate([self.colours, [[217, 217, 217]]]).astype(np.uint8)  # the last: no value
        figure = Figure(figsize=(film.width / DPI, film.height / DPI), dpi=DPI)
        self.panels = _lay_out(run, layers, figure, film)
        curve = figure.add_axes((0.07, 0.075, 0.9, CURVE - 0.11))
        iterates = np.arange(shown.start, shown.stop + 1)
        loss_line(curve, iterates, loss, linewidth=1.2)
        time_axis(curve, slice(shown.start, shown.stop), iterates=True)
        tidy(curve)
        figure.text(0.01, 0.985, plain(look.title), va="top", fontsize=11)
        agg = FigureCanvasAgg(figure)
        agg.draw()  # type: ignore[no-untyped-call]
        self.background = np.asarray(agg.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
        points = curve.transData.transform(np.column_stack([iterates, np.nan_to_num(loss[iterates])]))
        self.first = shown.start
        self.dots = np.column_stack([points[:, 0], film.height - points[:, 1]]).round().astype(int)
        self.font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 15)

    def draw(self, t: int, lca: NDArray[np.float64]) -> Frame:
        """lca: (K,), A of iteration t."""
        frame = self.background.copy()
        extended = np.append(lca, np.nan)
        for panel in self.panels:
            values = panel.values(extended)
            codes = np.clip(127 + 127 * values / self.limit, 0, 254)
            codes = np.where(np.isnan(codes), 255, codes.round()).astype(np.uint8)
            picture = self.colours[codes[panel.rows][:, panel.columns]]
            bottom, right = panel.top + len(panel.rows), panel.left + len(panel.columns)
            frame[panel.top : bottom, panel.left : right] = picture
        image = Image.fromarray(frame)
        draw = ImageDraw.Draw(image)
        loss = "loss not known"
        if np.isfinite(self.loss[t]):
            loss = f"loss {self.loss[t]:.4f}"
            x, y = self.dots[t - self.first]
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=self.look.colours.hurt)
        draw.text((image.width - 12, 8), f"iteration {t:,}   {loss}", fill=INK, font=self.font, anchor="ra")
        return np.asarray(image)


def _lay_out(run: Run, layers: list[str], figure: Figure, film: Film) -> list[Panel]:
    """A place for each layer, in rows: its kernels side by side, below them its vectors. Names go into the figure."""
    width, height = film.width - 2 * GAP, int(film.height * (1 - CURVE)) - 34
    columns = min(range(1, len(layers) + 1), key=lambda n: abs(np.log(width / n / (height / ceil(len(layers) / n)))))
    n_rows = ceil(len(layers) / columns)
    cell_w, cell_h = width // columns, height // n_rows
    panels = []
    for i, layer in enumerate(layers):
        left, top = GAP + i % columns * cell_w, 34 + i // columns * cell_h
        name = layer if len(layer) * 7 < cell_w else "…" + layer[-max(cell_w // 8, 1) :]
        figure.text(left / film.width, 1 - (top + TITLE / 2) / film.height, plain(name), va="center", fontsize=8)
        of_layer = matrices(run.parameters, [layer])
        kernels = [matrix for matrix in of_layer if len(run_shape(run, matrix)) > 1]
        vectors = [matrix for matrix in of_layer if len(run_shape(run, matrix)) <= 1]
        thick = max(
            1, min(STRIP, (cell_h - TITLE - GAP) // (2 * max(len(vectors), 1)) - 2)
        )  # vectors take half at most
        vectors = vectors[: max(1, (cell_h - TITLE - GAP) // (thick + 2) - 1)]
        room = cell_h - TITLE - GAP - len(vectors) * (thick + 2)
        for k, matrix in enumerate(kernels):
            part = (cell_w - GAP) // len(kernels)
            panels.append(Panel.fit(matrix, left + k * part, top + TITLE, part - 2, max(room, 1)))
        for v, matrix in enumerate(vectors):
            below = top + TITLE + (max(room, 1) if kernels else 0) + 2 + v * (thick + 2)
            flat = Matrix(matrix.name, matrix.places[matrix.places >= 0].reshape(1, -1))
            pixels = np.arange(cell_w - GAP - 2) * flat.places.size // (cell_w - GAP - 2)
            panels.append(Panel(flat.places, (1, 1), below, left, np.zeros(thick, np.int64), pixels))
    return panels


def run_shape(run: Run, matrix: Matrix) -> tuple[int, ...]:
    """The shape of the tensor that a matrix shows."""
    return next(p.shape for p in run.parameters if p.name == matrix.name)
