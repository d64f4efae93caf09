"""The order in which training visits the examples."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from lca.problem.batches import Batch, get_tensors, take
from lca.problem.prefetching import prefetch
from lca.problem.streaming import StreamedDataset


def draw_indices(
    n_examples: int, batch_size: int, seed: int, start: int = 0, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Yield the indices of each mini-batch, shape (batch_size,), endlessly, beginning with iteration `start`.

    Each epoch is a new permutation of the examples, which depends only on the seed and the epoch number.
    """
    n_batches = n_examples // batch_size
    for epoch in itertools.count(start // n_batches):
        permutation = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n_examples)).to(device)
        for batch in range(start % n_batches, n_batches):
            yield permutation[batch * batch_size : (batch + 1) * batch_size]
        start = 0


def draw_batches(data: "Batch | StreamedDataset", indices: Iterable[Tensor], device: torch.device) -> Iterator[Batch]:
    """Yield a mini-batch on `device` for each tensor of indices.

    If the data are in memory, the indices must be on the same device as the data.
    """
    if isinstance(data, StreamedDataset):
        found: Iterable[Batch] = data.draw(indices)
    else:
        found = (take(data, index) for index in indices)
        if get_tensors(data)[0].device == device:
            yield from found
            return
    yield from (batch for batch, _ in prefetch(((batch, None) for batch in found), device))
