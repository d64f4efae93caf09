"""The flow of the paper, in three passes over HDF5 files     [Lan et al., arXiv 1909.01440, sections 2 and S8]

    record             every iterate, float64, gzip
    compute_gradients  at every iterate and every midpoint, of each split, float32, gzip
    combine_…          A = Δ (∇L(θ_t) + 4 ∇L(midpoint) + ∇L(θ_{t+1})) / 6, of each split, float32, gzip

Written from its description. A chunk is a row: h5py's own choice of chunks spans rows, and writing row by row then
packs each chunk many times over, which takes eight times as long and some more space.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bench.flows.full_set import Gradient

Array = NDArray[Any]


def record(iterates: Collection[Array], path: Path) -> None:
    with h5py.File(path, "w") as file:
        weights = None
        for t, theta in enumerate(iterates):
            weights = weights or _rows(file, "weights", (len(iterates), len(theta)), "f8")
            weights[t] = theta


def compute_gradients(weights: Path, path: Path, gradients: Mapping[str, Gradient]) -> dict[str, float]:
    """gradients: by split. Returns the wall seconds that each split took, its storing included."""
    seconds = dict.fromkeys(gradients, 0.0)
    with h5py.File(weights) as source, h5py.File(path, "w") as target:
        n_iterates, K = source["weights"].shape
        stored = {split: _rows(target, split, (2 * n_iterates - 1, K), "f4") for split in gradients}
        for row, theta in enumerate(_points(source["weights"])):
            for split, gradient in gradients.items():
                begin = time.perf_counter()
                stored[split][row] = gradient(theta)
                seconds[split] += time.perf_counter() - begin
    return seconds


def combine_whole(weights: Path, gradients: Path, path: Path) -> None:
    """In memory: all weights, all gradients of all splits."""
    with h5py.File(weights) as file:
        theta = file["weights"][:]
    with h5py.File(gradients) as file:
        of_split = {split: file[split][:] for split in file}
    delta = np.diff(theta, axis=0)
    with h5py.File(path, "w") as target:
        for split, gradient in of_split.items():
            stored = _rows(target, split, delta.shape, "f4")
            stored[:] = delta * simpson(gradient[:-1:2], gradient[1::2], gradient[2::2])


def combine_streamed(weights: Path, gradients: Path, path: Path) -> None:
    """In memory: a few rows."""
    with h5py.File(weights) as thetas, h5py.File(gradients) as source, h5py.File(path, "w") as target:
        n_iterates, K = thetas["weights"].shape
        stored = {split: _rows(target, split, (n_iterates - 1, K), "f4") for split in source}
        before, start = thetas["weights"][0], {split: source[split][0] for split in source}
        for t in range(n_iterates - 1):
            after = thetas["weights"][t + 1]
            for split in source:
                middle, end = source[split][2 * t + 1], source[split][2 * t + 2]
                stored[split][t] = (after - before) * simpson(start[split], middle, end)
                start[split] = end
            before = after


def simpson(start: Array, middle: Array, end: Array) -> Array:
    """The mean of the gradient along a step: the weights 1, 4, 1 over 6, those of RK4."""
    return np.asarray((start + 4 * middle + end) / 6)


def _points(weights: h5py.Dataset) -> Iterator[Array]:
    """θ_0, the midpoint, θ_1, the next midpoint, …"""
    before = weights[0]
    yield before
    for t in range(1, len(weights)):
        after = weights[t]
        yield (before + after) / 2
        yield after
        before = after


def _rows(file: h5py.File, name: str, shape: tuple[int, int], dtype: str) -> h5py.Dataset:
    return file.create_dataset(name, shape, dtype, compression="gzip", chunks=(1, shape[1]))


def stored_bytes(path: Path, split: str) -> int:
    """What a split takes in a file; 0 where it is not in there."""
    with h5py.File(path) as file:
        return int(file[split].id.get_storage_size()) if split in file else 0
