"""The canvas of a film: where each matrix is, and how the LCA of an iteration is drawn on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lca.analysis.bins import make_edges_every, mean_in_bins
from lca.figures.axes import Floats, draw_loss, escape_text, set_time_axis, tidy
from lca.figures.encode import Frame
from lca.figures.matrices import Matrix, Places, make_matrices
from lca.figures.style import INK, Look
from lca.store.parameters import ParameterTable

DPI = 100  # of the parts that matplotlib draws
CURVE = 0.28  # of the height, for the loss
HEADER = 34  # pixels: above the panels
TITLE, VECTOR, GAP = 16, 8, 6  # pixels: of a layer's name, of a vector at most, between two panels
DOT = 5  # radius, in pixels
STRETCH = 3.0  # how far a matrix may be out of proportion, to fill its place
MISSING = (217, 217, 217)  # the colour of no value


@dataclass(frozen=True)
class Panel:
    """A matrix in its place on the canvas.

    step: how many rows and columns of the matrix are averaged. top, left: its corner, in pixels. rows, columns: which
    of the averages its pixels show.
    """

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
        averages = ceil(h / step[0]), ceil(w / step[1])
        pixels = max(1, int(h * scale_y)), max(1, int(w * scale_x))
        rows, columns = (np.arange(p) * n // p for p, n in zip(pixels, averages, strict=True))
        return cls(matrix.places, step, top, left, rows, columns)

    @classmethod
    def fit_vector(cls, matrix: Matrix, left: int, top: int, width: int, height: int) -> "Panel":
        """A vector as one row, over the whole width."""
        flat = matrix.places[matrix.places >= 0].reshape(1, -1)
        return cls(flat, (1, 1), top, left, np.zeros(height, np.int64), np.arange(width) * flat.size // width)

    def average(self, lca: Floats) -> Floats:
        """lca (K + 1,), whose last is NaN, for places without a parameter -> the averages, (row, column)."""
        values = lca[self.places]
        for axis, step in enumerate(self.step):
            if step > 1:
                values = mean_in_bins(values, make_edges_every(values.shape[axis], step), axis)
        return values


class Canvas:
    """What all frames have in common, and how one is drawn on it.

    loss: (T+1,). layers: those that are shown. limit: the |A| where the colours end. shown: the iterations.
    """

    def __init__(
        self,
        table: ParameterTable,
        loss: Floats,
        *,
        layers: Sequence[str],
        limit: float,
        shown: range,
        look: Look,
        size: tuple[int, int],
    ) -> None:
        self.loss, self.limit, self.look, self.first = loss, limit, look, shown.start
        colours = (255 * look.colours.map(np.arange(255))[:, :3]).round().astype(np.uint8)
        self.colours = np.concatenate([colours, [MISSING]]).astype(np.uint8)
        width, height = size
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        self.panels = lay_out(table, layers, figure, width, height)
        self.background, self.dots = _draw_background(figure, loss, shown, look)
        self.font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 15)

    def draw(self, t: int, lca: Floats) -> Frame:
        """lca: (K,), A of iteration t."""
        frame = self.background.copy()
        extended = np.append(lca, np.nan)
        for panel in self.panels:
            codes = np.clip(127 + 127 * panel.average(extended) / self.limit, 0, 254)
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


def _draw_background(figure: Figure, loss: Floats, shown: range, look: Look) -> tuple[Frame, NDArray[np.int64]]:
    """The picture with the loss and the title, and the pixels (iterate, 2) where the loss has its dot."""
    curve = figure.add_axes((0.07, 0.075, 0.9, CURVE - 0.11))
    iterates = np.arange(shown.start, shown.stop + 1)
    draw_loss(curve, iterates, loss, linewidth=1.2)
    set_time_axis(curve, slice(shown.start, shown.stop), iterates=True)
    tidy(curve)
    figure.text(0.01, 0.985, escape_text(look.title or ""), va="top", fontsize=11)
    agg = FigureCanvasAgg(figure)
    agg.draw()  # type: ignore[no-untyped-call]
    background = np.asarray(agg.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    points = curve.transData.transform(np.column_stack([iterates, np.nan_to_num(loss[iterates])]))
    return background, np.column_stack([points[:, 0], len(background) - points[:, 1]]).round().astype(np.int64)


def lay_out(table: ParameterTable, layers: Sequence[str], figure: Figure, width: int, height: int) -> list[Panel]:
    """A place for each layer, in rows, with its name, which is drawn on the figure."""
    inner_width, inner_height = width - 2 * GAP, int(height * (1 - CURVE)) - HEADER

    def measure_distortion(columns: int) -> float:
        """How far the cells are from squares."""
        return float(abs(np.log(inner_width / columns / (inner_height / ceil(len(layers) / columns)))))

    columns = min(range(1, len(layers) + 1), key=measure_distortion)
    cell_width, cell_height = inner_width // columns, inner_height // ceil(len(layers) / columns)
    panels = []
    for i, layer in enumerate(layers):
        left, top = GAP + i % columns * cell_width, HEADER + i // columns * cell_height
        name = layer if len(layer) * 7 < cell_width else "…" + layer[-max(cell_width // 8, 1) :]
        figure.text(left / width, 1 - (top + TITLE / 2) / height, escape_text(name), va="center", fontsize=8)
        room = cell_height - TITLE - GAP
        panels += _lay_out_layer(make_matrices(table, [layer]), left, top + TITLE, cell_width - GAP, room)
    return panels


def _lay_out_layer(matrices: Sequence[Matrix], left: int, top: int, width: int, height: int) -> list[Panel]:
    """The kernels of a layer side by side, below them its vectors, as many as there is room for."""
    kernels = [matrix for matrix in matrices if not matrix.is_vector]
    vectors = [matrix for matrix in matrices if matrix.is_vector]
    thickness = max(1, min(VECTOR, height // (2 * max(len(vectors), 1)) - 2))  # vectors take half at most
    vectors = vectors[: max(1, height // (thickness + 2) - 1)]
    room = max(height - len(vectors) * (thickness + 2), 1)
    part = width // max(len(kernels), 1)
    panels = [Panel.fit(matrix, left + k * part, top, part - 2, room) for k, matrix in enumerate(kernels)]
    for v, matrix in enumerate(vectors):
        below = top + (room if kernels else 0) + 2 + v * (thickness + 2)
        panels.append(Panel.fit_vector(matrix, left, below, width - 2, thickness))
    return panels
