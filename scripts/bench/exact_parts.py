"""The exact LCA of a fully connected ReLU network, by a float64 midpoint rule in NumPy and without lca."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class FullyConnected:
    """A network of dense layers with ReLU in between, and its mean cross-entropy over all examples.

    `shapes` are those of the parameters, alternately a weight matrix (out, in) and a bias (out,). `x` is (N, in), `y`
    holds N class labels.
    """

    def __init__(self, shapes: list[tuple[int, ...]], x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        self.shapes, self.x, self.y = shapes, x.astype(np.float64), y
        self.ends = np.cumsum([int(np.prod(shape)) for shape in shapes])

    def loss_and_gradient(self, theta: Floats) -> tuple[float, Floats]:
        """Return L(θ) and ∇L(θ) (K,) by backpropagation."""
        parts = [part.reshape(shape) for part, shape in zip(np.split(theta, self.ends[:-1]), self.shapes, strict=True)]
        kernels, biases = parts[::2], parts[1::2]
        inputs = [self.x]
        for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
            inputs.append(np.maximum(inputs[-1] @ kernel.T + bias, 0))
        z = inputs[-1] @ kernels[-1].T + biases[-1]
        z -= z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        of_label = np.arange(len(self.y)), self.y
        delta = np.exp(log_p)
        delta[of_label] -= 1
        delta /= len(self.y)
        gradients: list[Floats] = []
        for i in reversed(range(len(kernels))):
            gradients = [(delta.T @ inputs[i]).ravel(), delta.sum(axis=0), *gradients]
            delta = (delta @ kernels[i]) * (inputs[i] > 0)
        return -float(log_p[of_label].mean()), np.concatenate(gradients)

    def allocate(self, theta0: Floats, theta1: Floats, n_points: int) -> Floats:
        """Return Δ ∫₀¹ ∇L(θ0 + sΔ) ds (K,) by the midpoint rule."""
        delta = theta1 - theta0
        points = (np.arange(n_points) + 0.5) / n_points
        return delta * sum(self.loss_and_gradient(theta0 + s * delta)[1] for s in points) / n_points


def open_network(path: Path, x: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[FullyConnected, Floats]:
    """Return the network of a run store, and its iterates (K, T + 1)."""
    group = zarr.open_group(str(path), mode="r")
    attributes: Any = group.attrs["lca"]
    network = FullyConnected([tuple(each["shape"]) for each in attributes["parameters"]], x, y)
    return network, np.asarray(group["weights"][:], np.float64)  # type: ignore[index]


def measure_part_errors(
    path: Path, names: Sequence[str], x: NDArray[np.float32], y: NDArray[np.int64], iterations: Sequence[int]
) -> dict[str, Floats]:
    """Return the true part errors Σ|A − exact| / Σ|exact| of each allocation in the given iterations, by name.

    The integral uses 64 points, or four per subinterval of a refined iteration if that is more.
    """
    network, weights = open_network(path, x, y)
    group = zarr.open_group(str(path), mode="r")
    stored: dict[str, Any] = {name: group[f"lca/{name}/lca"] for name in names}
    counts: list[Any] = [group[f"lca/{name}/intervals"] for name in names]
    intervals = np.max([np.asarray(count[:]) for count in counts], axis=0)
    errors = {name: np.zeros(len(iterations)) for name in names}
    for i, t in enumerate(iterations):
        exact = network.allocate(weights[:, t], weights[:, t + 1], max(64, 4 * int(intervals[t])))
        size = np.abs(exact).sum()
        for name, array in stored.items():
            parts = np.asarray(array[:, t], np.float64)
            errors[name][i] = np.abs(parts - exact).sum() / size if size else 0.0
    return errors
