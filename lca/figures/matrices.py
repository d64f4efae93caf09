"""The arrangement of the parameters of each tensor as a picture.     [arXiv 1909.01440, figure 2]"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from lca.store.blocks import ceil_div
from lca.store.parameters import Parameter, ParameterTable

EMPTY = -1  # index in a cell without a parameter
IMAGES = ((1, 8), (1, 16), (1, 28), (1, 32), (3, 32), (3, 64))  # (colors, side in pixels) of common image datasets
VECTOR_ROW = 128  # a longer vector is wrapped into rows of this many parameters

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Matrix:
    """A parameter tensor arranged as a matrix.

    `places` has shape (height, width) and contains indices into θ, or −1 in cells without a parameter.
    """

    name: str
    places: Places
    is_vector: bool = False


def make_matrices(table: ParameterTable, layers: Sequence[str] | None = None) -> list[Matrix]:
    """Return one matrix per tensor of the given layers, or of all layers. Empty tensors have no matrix.

    A dense kernel keeps its shape (unit, input). If the model's first tensor is a dense kernel whose inputs can be a
    square image of a common size, the weights of each unit are arranged as such an image. A convolution becomes a grid
    of filters, with output channels as rows and input channels as columns. A vector becomes rows of up to VECTOR_ROW
    parameters.
    """
    return [
        Matrix(parameter.name, _arrange(parameter, is_first=i == 0), len(parameter.shape) <= 1)
        for i, parameter in enumerate(table)
        if parameter.size and (layers is None or parameter.layer in layers)
    ]


def _arrange(parameter: Parameter, is_first: bool) -> Places:
    index = parameter.offset + np.arange(parameter.size)
    shape = parameter.shape
    if len(shape) <= 1:
        width = min(VECTOR_ROW, max(parameter.size, 1))
        padded = np.full(ceil_div(parameter.size, width) * width, EMPTY)
        padded[: parameter.size] = index
        return padded.reshape(-1, width)
    if len(shape) == 2:
        image = _find_image_shape(shape[1]) if is_first else None
        if image is None:
            return index.reshape(shape)
        tiles = index.reshape(shape[0], *image).transpose(0, 2, 1, 3).reshape(shape[0], image[1], -1)
        return _arrange_tiles(tiles, ceil(sqrt(shape[0] * image[1] / tiles.shape[2])) or 1)
    n_out, n_in = shape[:2]
    if prod(shape[2:]) == 1:
        return index.reshape(n_out, n_in)
    height, width = (prod(shape[2:-1]), shape[-1]) if len(shape) > 3 else (1, shape[-1])
    return _arrange_tiles(index.reshape(n_out * n_in, height, width), n_in if n_in > 1 else ceil(sqrt(n_out)))


def _find_image_shape(n: int) -> tuple[int, int, int] | None:
    """Return (colors, height, width) if n inputs can be an image of a common size, else None."""
    return next(((colors, side, side) for colors, side in IMAGES if colors * side * side == n), None)


def _arrange_tiles(tiles: Places, columns: int) -> Places:
    """Arrange tiles of shape (n, h, w) in a grid with this many columns, separated by blank rows and columns."""
    n, h, w = tiles.shape
    rows = ceil_div(n, columns)
    grid = np.full((rows, columns, h + 1, w + 1), EMPTY)
    grid.reshape(rows * columns, h + 1, w + 1)[:n, :h, :w] = tiles
    return grid.transpose(0, 2, 1, 3).reshape(rows * (h + 1), columns * (w + 1))[:-1, :-1]
