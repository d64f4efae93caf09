"""Biases that BatchNorm cancels. Their LCA is 0, but rounding errors are stored in its place.

BatchNorm subtracts the mean over the batch, so a constant that is added before it has no effect, and the gradient of
such a bias is exactly 0. In floating-point arithmetic, the terms of the sum over the examples cancel except for
rounding errors. The signs and magnitudes of rounding errors mean nothing, so the LCA of such a bias counts as 0.

A bias is recognized by its gradient. The gradient of a bias sums the derivatives with respect to the outputs of the
layer, and the gradient of the kernel sums the same derivatives times the inputs. The norm of the former is therefore of
the order of the largest norm in its layer (7 to 57 % of it in the networks we tried), unless the sum cancels (2e-5 of
it or less, in single precision). The limit in between is √ε, with ε the machine epsilon of the allocation. The norms
are root mean squares over all iterates, because a bias cancels at all of them or at none.

Gradients that are small for other reasons are not affected. If the gradient of a whole layer vanishes, that of its bias
is still of the same order as that of its kernel. In models without BatchNorm, no bias counts as 0, because the gradient
of a bias is also comparatively small if the inputs of its layer are large. In lower precision (bf16 or tf32), rounding
errors are larger, and biases that cancel may not be recognized.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lca.analysis.tiles import Consumer, Tile, iterate_tiles
from lca.store.allocation import Allocation
from lca.store.parameters import Parameter
from lca.store.run import Run

N_LISTED = 3  # number of names in the note below a table


def find_cancelled(allocation: Allocation) -> list[Parameter]:
    """Return the biases whose gradient is 0 except for rounding errors, because BatchNorm cancels them."""
    if allocation.attributes.get("batchnorm") != "batch statistics":
        return []
    table, layer = allocation.parameters, allocation.parameters.layer_index
    norms = allocation.read("gradient_norm")
    known = norms[np.isfinite(norms).all(axis=1)]
    size = np.sqrt((known**2).sum(axis=0))
    limit = np.sqrt(np.finfo(allocation.attributes["dtype"]).eps)
    return [
        parameter
        for i, parameter in enumerate(table)
        if parameter.kind == "bias" and size[i] < limit * size[layer == layer[i]].max()
    ]


def feed_lca(run: Run, allocation: Allocation, mask: NDArray[np.bool_], consumers: Sequence[Consumer]) -> None:
    """Read the LCA of an allocation once and pass each tile to all consumers. Nothing is read without consumers."""
    for tile in iterate_lca(run, allocation, mask) if consumers else ():
        for consumer in consumers:
            consumer.add(tile)


def iterate_lca(run: Run, allocation: Allocation, mask: NDArray[np.bool_]) -> Iterator[Tile]:
    """Yield the tiles of the LCA of an allocation. The LCA of biases that BatchNorm cancels is set to 0."""
    cancelled = [parameter.span for parameter in find_cancelled(allocation)]
    for tile in iterate_tiles(run, allocation.lca, mask):
        inside = [span for span in cancelled if span.start < tile.rows.stop and span.stop > tile.rows.start]
        yield _set_to_zero(tile, inside) if inside else tile


def _set_to_zero(tile: Tile, spans: Sequence[slice]) -> Tile:
    """Return the tile with the rows of these spans of parameters set to 0."""
    values = tile.values.copy()
    for span in spans:
        values[max(span.start - tile.rows.start, 0) : span.stop - tile.rows.start] = 0
    return replace(tile, values=values)


def describe_cancelled(names: Sequence[str]) -> list[str]:
    """Return a list with a note that names the biases that BatchNorm cancels, or [] if there are none."""
    listed = ", ".join(names[:N_LISTED]) + (f" and {len(names) - N_LISTED:,} more" if len(names) > N_LISTED else "")
    return [f"Counted as 0, because BatchNorm cancels them except for rounding errors: {listed}."] if names else []
