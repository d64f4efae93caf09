"""The objective L: a model, its losses and the examples of a split, in the order of the passes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lca.errors import Argument, UsageError
from lca.model.evaluation_mode import has_batchnorm
from lca.problem.batches import Batch, get_tensors, length, map_tensors, take
from lca.problem.losses import Losses, compute_labels, compute_weights
from lca.problem.problem import Problem
from lca.problem.sampling import draw_stratified
from lca.problem.streaming import StreamedDataset, count_examples, iterate_pieces, map_batches, take_first
from lca.runtime.device import get_memory_bytes

MAX_CLASSES = 1_000
SCALED_SHARE = 0.25  # of the memory, that the scaled split may take; beyond that it stays as it is stored
DEVICE_SHARE = 0.5  # of a CUDA device's memory, that a split may take; beyond that it stays on the host


@dataclass(frozen=True)
class Objective:
    """L(θ) = Σ wℓ(θ) / Σ w over the examples of a split.

    model, losses: as the problem's. data: tensors (N, …), nested as the problem has them, on the device, or on the host
    where they do not fit there; or a streamed dataset. scale: what is still to be done to each batch of them; None if
    nothing is. weigh: as the problem's.
    groups: groups(batch), the index into classes of each loss, (B,) or (B, S); None where classes are not told apart.
    classes: their labels, ascending; may be left empty for data in memory, whose groups then are 0 … n − 1.
    labels: (N,) the label of each example, on the host; None where there is none. n_of_class: by label, how many
    examples the whole split has, of which the N may be a part.
    """

    model: nn.Module
    losses: Losses
    data: Batch | StreamedDataset
    scale: Callable[[Batch], Batch] | None = None
    weigh: Callable[[Batch], Tensor] | None = None
    groups: Callable[[Batch], Tensor] | None = None
    classes: list[int] = field(default_factory=list)
    labels: NDArray[np.int64] | None = None
    n_of_class: dict[int, int] = field(default_factory=dict)

    @property
    def n_examples(self) -> int:
        """N, the examples that L is the mean of."""
        return count_examples(self.data)

    @property
    def n_in_split(self) -> int:
        """The examples of the whole split."""
        return sum(self.n_of_class.values()) or self.n_examples

    def take_first(self, n: int) -> "Objective":
        """The same over the first n examples, in memory, without classes."""
        return replace(self, data=take_first(self.data, n), groups=None, classes=[], labels=None, n_of_class={})

    def map_data(self, function: Callable[[Batch], Batch]) -> "Objective":
        """The same with function(batch) for all data, or for each batch of a streamed dataset."""
        return replace(self, data=map_batches(self.data, function))


def prepare(
    problem: Problem,
    split: str,
    device: torch.device,
    *,
    n_examples: int | None = None,
    seed: int = 0,
    by_class: bool = False,
) -> Objective:
    """The objective over a split of a problem, or a part of it, ready for passes on the device.

    n_examples: a subset, drawn by seed, with the classes in it as they are in the split (according to the problem's
    groups; without a label for each example it is drawn from all alike). by_class: told apart; without BatchNorm,
    examples in memory are sorted by class.
    """
    data = problem.split(split)
    N = count_examples(data)
    if n_examples is not None and not 1 <= n_examples <= N:
        expected = f"1 to {N:,}, the examples of the {split} split of {problem.name}"
        raise UsageError("examples", expected=expected, found=f"{n_examples:,}")
    if by_class and problem.groups is None:
        raise UsageError(
            f"{problem.name} has no groups",
            remedy=("Give it some, Problem(…, groups=lambda batch: …), or leave out ", Argument("by_class"), "."),
        )
    labels, classes = _find_labels(problem, data) if problem.groups and (by_class or n_examples) else (None, [])
    if by_class and len(classes) > MAX_CLASSES:
        raise UsageError(
            f"the classes of {problem.name}",
            expected=f"at most {MAX_CLASSES:,}",
            found=f"{len(classes):,}",
            remedy=("Give the problem coarser groups, or leave out ", Argument("by_class"), "."),
        )
    n_of_class = dict(Counter(labels.tolist())) if labels is not None else {0: N}
    index = np.arange(N)
    if n_examples is not None:
        index = draw_stratified(np.zeros(N, np.int64) if labels is None else labels, n_examples, seed)
        classes = classes if labels is None else np.unique(labels[index]).tolist()
    if by_class and labels is not None and not isinstance(data, StreamedDataset) and not has_batchnorm(problem.model):
        index = index[np.argsort(labels[index], kind="stable")]
    if not np.array_equal(index, np.arange(N)):
        data = _select(data, index)
        labels = None if labels is None else labels[index]
    data, scale = move_to_device(data, problem.scale, device)
    return Objective(
        problem.model,
        problem.losses,
        data,
        scale,
        problem.weigh,
        _index_groups(problem.groups, classes) if by_class and problem.groups else None,
        classes if by_class else [],
        labels,
        n_of_class,
    )


def move_to_device(
    data: "Batch | StreamedDataset", scale: Callable[[Batch], Batch] | None, device: torch.device
) -> "tuple[Batch | StreamedDataset, Callable[[Batch], Batch] | None]":
    """The data on the device, if they fit there; scaled at once if that fits too, else with the scale left to apply."""
    if isinstance(data, StreamedDataset):
        return data, scale
    wanted = sum(x.nbytes for x in get_tensors(data) if x.device != device)
    if device.type == "cuda" and wanted > DEVICE_SHARE * get_memory_bytes(device):
        return map_tensors(data, lambda x: x.cpu().pin_memory()), scale  # from where it can be copied without waiting
    data = map_tensors(data, lambda x: x.to(device))
    if scale is None:
        return data, None
    one = scale(take(data, slice(1)))
    n_bytes = length(data) * sum(x.nbytes for x in get_tensors(one))
    return (scale(data), None) if n_bytes <= SCALED_SHARE * get_memory_bytes(device) else (data, scale)


def _find_labels(problem: Problem, data: "Batch | StreamedDataset") -> tuple[NDArray[np.int64] | None, list[int]]:
    """The label (N,) of each example, if there is a single one, and all labels that anything of weight has."""
    assert problem.groups is not None
    found, classes = [], set()
    for batch in iterate_pieces(data, problem.scale):
        labels, weights = compute_labels(problem.groups, batch).cpu(), compute_weights(problem.weigh, batch)
        if weights is not None and weights.shape == labels.shape:
            classes |= set(torch.unique(labels[weights.cpu() > 0]).tolist())
        else:
            classes |= set(torch.unique(labels).tolist())
        if labels.ndim == 1:  # those of parts may be more than there is memory for
            found.append(labels.numpy().astype(np.int64))
    return np.concatenate(found) if found else None, sorted(classes)


def _index_groups(groups: Callable[[Batch], Tensor], classes: list[int]) -> Callable[[Batch], Tensor]:
    """groups(batch) as indices into classes. What has a label of no class has no weight, so that any index will do."""

    def indices(batch: Batch) -> Tensor:
        labels = compute_labels(groups, batch)
        known = torch.tensor(classes, device=labels.device)
        return torch.searchsorted(known, labels.to(known.dtype).contiguous()).clamp_(max=len(classes) - 1)

    return indices


def _select(data: "Batch | StreamedDataset", index: NDArray[np.int64]) -> "Batch | StreamedDataset":
    if isinstance(data, StreamedDataset):
        return data.select(index.tolist()).read()
    order = torch.from_numpy(index)
    return map_tensors(data, lambda x: x[order.to(x.device)])
