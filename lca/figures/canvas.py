"""The canvas of a film: the layout of the matrices, and how the LCA of one iteration is drawn on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lca.analysis.bins import make_edges_every, mean_in_bins
from lca.figures.axes import Floats, draw_loss, escape_text, set_time_axis, tidy
from lca.figures.encode import Frame
from lca.figures.matrices import Matrix, Places, make_matrices
from lca.figures.style import INK, Look
from lca.store.parameters import ParameterTable

DPI = 100  # resolution of the title, the layer names and the loss curve, which matplotlib draws
CURVE = 0.28  # fraction of the height that the loss curve takes up
HEADER = 34  # height of the space above the panels, in pixels
TITLE, VECTOR, GAP = 16, 8, 6  # height of a layer's name, largest height of a vector, gap between panels, in pixels
DOT = 5  # radius of the dot on the loss curve, in pixels
STRETCH = 3.0  # largest ratio between the two scales of a matrix that is stretched to fill its cell
FULL_TEXT, MIN_LABELED = 600, 400  # film heights in pixels below which text shrinks, and axis labels are omitted
MISSING = (217, 217, 217)  # color of NaN


@dataclass(frozen=True)
class Panel:
    """A matrix placed on the canvas.

    `places` is the matrix of parameter indices (see `matrices.Matrix`). A large matrix is averaged over blocks of
    `step` = (rows, columns) cells. `top` and `left` are the upper left corner in pixels. `rows` and `columns` give, for
    each pixel row and pixel column of the panel, the averaged row and column that it shows.
    """

    places: Places
    step: tuple[int, int]
    top: int
    left: int
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def fit(cls, matrix: Matrix, left: int, top: int, width: int, height: int) -> "Panel":
        """Scale a matrix to fill its cell, but stretch it by a factor of STRETCH at most."""
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
        """Place a vector as a single row across the whole width."""
        flat = matrix.places[matrix.places >= 0].reshape(1, -1)
        return cls(flat, (1, 1), top, left, np.zeros(height, np.int64), np.arange(width) * flat.size // width)

    def average(self, lca: Floats) -> Floats:
        """Average the LCA over blocks of the matrix. Returns shape (row, column).

        `lca` has shape (K + 1,). Its last element must be NaN, because cells without a parameter have the index −1.
        """
        values = lca[self.places]
        for axis, step in enumerate(self.step):
            if step > 1:
                values = mean_in_bins(values, make_edges_every(values.shape[axis], step), axis)
        return values


class Canvas:
    """The background that all frames share, and a method to draw one frame on it.

    `loss` has shape (T + 1,) and is measured in `unit`. `layers` and `shown` are the layers and iterations of the film.
    The color scale ends at ±`limit`. `size` is (width, height) in pixels.
    """

    def __init__(
        self,
        table: ParameterTable,
        loss: Floats,
        *,
        unit: str,
        layers: Sequence[str],
        limit: float,
        shown: range,
        look: Look,
        size: tuple[int, int],
    ) -> None:
        self.loss, self.limit, self.look, self.first = loss, limit, look, shown.start
        colors = (255 * look.palette.map(np.arange(255))[:, :3]).round().astype(np.uint8)
        self.colors = np.concatenate([colors, [MISSING]]).astype(np.uint8)
        width, height = size
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        self.panels = lay_out(table, layers, figure, width, height)
        self.background, self.dots = _draw_background(figure, loss, unit, shown, look)
        self.font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 15 * choose_text_scale(height))

    def draw(self, t: int, lca: Floats) -> Frame:
        """Draw the frame of iteration t, whose LCA has shape (K,)."""
        frame = self.background.copy()
        extended = np.append(lca, np.nan)
        for panel in self.panels:
            codes = np.clip(127 + 127 * panel.average(extended) / self.limit, 0, 254)
            codes = np.where(np.isnan(codes), 255, codes.round()).astype(np.uint8)
            picture = self.colors[codes[panel.rows][:, panel.columns]]
            bottom, right = panel.top + len(panel.rows), panel.left + len(panel.columns)
            frame[panel.top : bottom, panel.left : right] = picture
        image = Image.fromarray(frame)
        draw = ImageDraw.Draw(image)
        loss = "loss unknown"
        if np.isfinite(self.loss[t]):
            loss = f"loss {self.loss[t]:.4f}"
            x, y = self.dots[t - self.first]
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=self.look.palette.hurt)
        draw.text((image.width - 12, 8), f"iteration {t:,}   {loss}", fill=INK, font=self.font, anchor="ra")
        return np.asarray(image)


def _draw_background(
    figure: Figure, loss: Floats, unit: str, shown: range, look: Look
) -> tuple[Frame, NDArray[np.int64]]:
    """Draw the loss curve, the title, the legend and the names of the layers.

    Returns the picture, and the pixel coordinates of the loss at each iterate, shape (shown iterates, 2).
    """
    scale = choose_text_scale(figure.bbox.height)
    curve = figure.add_axes((0.07, 0.075, 0.9, CURVE - 0.12))
    iterates = np.arange(shown.start, shown.stop + 1)
    draw_loss(curve, iterates, loss, unit, linewidth=1.2)
    set_time_axis(curve, slice(shown.start, shown.stop), iterates=True)
    tidy(curve)
    curve.tick_params(labelsize=10 * scale)
    for label in (curve.xaxis.label, curve.yaxis.label):
        label.set_fontsize(10 * scale)
    if figure.bbox.height < MIN_LABELED:
        curve.set(xlabel="", ylabel="")
    _draw_legend(curve, look, 8 * scale)
    figure.text(0.01, 0.985, escape_text(look.title or ""), va="top", fontsize=11 * scale)
    agg = FigureCanvasAgg(figure)
    agg.draw()  # type: ignore[no-untyped-call]
    background = np.asarray(agg.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    points = curve.transData.transform(np.column_stack([iterates, np.nan_to_num(loss[iterates])]))
    return background, np.column_stack([points[:, 0], len(background) - points[:, 1]]).round().astype(np.int64)


def _draw_legend(curve: Axes, look: Look, size: float) -> None:
    """Draw a legend of the two colors above the right end of the loss curve."""
    signs = {"LCA below 0 helps": look.palette.help, "LCA above 0 hurts": look.palette.hurt}
    curve.legend(
        handles=[Patch(color=color, label=label) for label, color in signs.items()],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        fontsize=size,
        frameon=False,
        handlelength=1,
        borderpad=0,
        borderaxespad=0.1,
    )


def choose_text_scale(height: float) -> float:
    """Return the factor by which text is scaled in a film of this height in pixels."""
    return min(max(height / FULL_TEXT, 0.6), 1.0)


def lay_out(table: ParameterTable, layers: Sequence[str], figure: Figure, width: int, height: int) -> list[Panel]:
    """Arrange the layers in a grid, write their names on the figure, and return the panels of their tensors."""
    inner_width, inner_height = width - 2 * GAP, int(height * (1 - CURVE)) - HEADER

    def measure_distortion(columns: int) -> float:
        """Return how far the cells are from being square, as |log(width / height)|."""
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
    """Place the kernels of a layer side by side, and below them as many of its vectors as fit."""
    kernels = [matrix for matrix in matrices if not matrix.is_vector]
    vectors = [matrix for matrix in matrices if matrix.is_vector]
    # All vectors together take up at most half of the height.
    thickness = max(1, min(VECTOR, height // (2 * max(len(vectors), 1)) - 2))
    vectors = vectors[: max(1, height // (thickness + 2) - 1)]
    room = max(height - len(vectors) * (thickness + 2), 1)
    part = width // max(len(kernels), 1)
    panels = [Panel.fit(matrix, left + k * part, top, part - 2, room) for k, matrix in enumerate(kernels)]
    for v, matrix in enumerate(vectors):
        below = top + (room if kernels else 0) + 2 + v * (thickness + 2)
        panels.append(Panel.fit_vector(matrix, left, below, width - 2, thickness))
    return panels
