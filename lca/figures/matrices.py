"""Where each parameter lies in a picture: layers as matrices of their parameters.     [arXiv 1909.01440, figure 2]"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from lca.store.blocks import ceil_div
from lca.store.parameters import Parameter, ParameterTable

EMPTY = -1  # a place without a parameter
IMAGES = ((1, 8), (1, 16), (1, 28), (1, 32), (3, 32), (3, 64))  # colours and pixels on a side of what may be one
VECTOR_ROW = 128  # parameters in a row of a vector

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Matrix:
    """name, is_vector: of the tensor. places: (height, width), which parameter of θ is where; −1 where none is."""

    name: str
    places: Places
    is_vector: bool = False


def make_matrices(table: ParameterTable, layers: Sequence[str] | None = None) -> list[Matrix]:
    """One for each tensor, of some layers or all.

    A dense kernel is as it is, units by inputs; that of the first layer is tiled as images where its inputs can be a
    square image of one or three colours. A convolution is a grid of filters, output by input channels. A vector is a
    strip.
    """
    return [
        Matrix(parameter.name, _arrange(parameter, is_first=i == 0), len(parameter.shape) <= 1)
        for i, parameter in enumerate(table)
        if layers is None or parameter.layer in layers
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
    """(colours, height, width) of n inputs that may be an image of a usual size."""
    return next(((colours, side, side) for colours, side in IMAGES if colours * side * side == n), None)


def _arrange_tiles(tiles: Places, columns: int) -> Places:
    """tiles (n, h, w) -> rows of this many tiles each, with a line between any two."""
    n, h, w = tiles.shape
    rows = ceil_div(n, columns)
    grid = np.full((rows, columns, h + 1, w + 1), EMPTY)
    grid.reshape(rows * columns, h + 1, w + 1)[:n, :h, :w] = tiles
    return grid.transpose(0, 2, 1, 3).reshape(rows * (h + 1), columns * (w + 1))[:-1, :-1]
