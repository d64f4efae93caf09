"""The pipeline of the paper, in three steps that write HDF5 files     [Lan et al., arXiv 1909.01440, sections 2 and S8]

    record             every iterate, float64, gzip
    compute_gradients  the gradients of each split at every iterate and midpoint, float32, gzip
    combine_…          A = Δ (∇L(θ_t) + 4 ∇L(midpoint) + ∇L(θ_{t+1})) / 6 for each split, float32, gzip

Implemented from the description in the paper. Each chunk is one row. The default chunks of h5py span several rows, so
writing row by row compresses each chunk many times, which takes eight times as long and more space.
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
    """Compute and write the gradients of each split. Returns the seconds that each took, including the writing."""
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
    """Compute A from the weights and gradients, with whole arrays in memory, and write it to `path`."""
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
    """Compute A from the weights and gradients, with only a few rows in memory, and write it to `path`."""
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
    """Return the mean gradient along a step by Simpson's rule, with the weights 1/6, 4/6 and 1/6."""
    return np.asarray((start + 4 * middle + end) / 6)


def _points(weights: h5py.Dataset) -> Iterator[Array]:
    """Yield θ_0, the midpoint of θ_0 and θ_1, θ_1, the next midpoint and so on."""
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
    """Return the bytes of a split in an HDF5 file, or 0 if the file does not contain it."""
    with h5py.File(path) as file:
        return int(file[split].id.get_storage_size()) if split in file else 0
