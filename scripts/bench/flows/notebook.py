"""The first-order rule A = Δ · ∇L(θ_t), as in a notebook: all iterates and gradients are kept in memory."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.flows.full_set import Gradient


def first_order(gradient: Gradient, iterates: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return A of shape (T, K), by the first-order rule, in the dtype of the iterates."""
    gradients = [gradient(theta) for theta in iterates[:-1]]
    allocation = np.empty((len(gradients), len(iterates[0])), iterates[0].dtype)
    for t, (before, after) in enumerate(pairwise(iterates)):
        allocation[t] = (after - before) * gradients[t]
    return allocation
