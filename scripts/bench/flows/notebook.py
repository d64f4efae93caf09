"""The first order, A = Δ · ∇L(θ_t), as in a notebook: every iterate and every gradient in memory, nothing on disk."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.flows.full_set import Gradient


def first_order(gradient: Gradient, iterates: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(T, K), of the numbers of the iterates."""
    gradients = [gradient(theta) for theta in iterates[:-1]]
    allocation = np.empty((len(gradients), len(iterates[0])), iterates[0].dtype)
    for t, (before, after) in enumerate(pairwise(iterates)):
        allocation[t] = (after - before) * gradients[t]
    return allocation
