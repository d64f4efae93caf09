"""The objective L: the mean loss of a model over the examples of a split."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lca.errors import Argument, UsageError
from lca.model.evaluation_mode import has_batchnorm
from lca.problem.batches import Batch, get_named_tensors, get_tensors, length, map_tensors, take
from lca.problem.losses import Losses, compute_labels, compute_weights
from lca.problem.problem import Problem
from lca.problem.sampling import draw_stratified
from lca.problem.streaming import StreamedDataset, count_examples, iterate_pieces, map_batches, take_first
from lca.runtime.device import get_memory_bytes, has_float64
from lca.runtime.streams import is_asynchronous, pin

MAX_CLASSES = 1_000
SCALED_SHARE = 0.25  # largest fraction of memory for the scaled split; a larger one is scaled batch by batch
SAME_LOSS = 1e-4  # relative difference allowed between losses in batches of different sizes, which round differently
DEVICE_SHARE = 0.5  # largest fraction of an accelerator's memory for a split; a larger one stays on the host


@dataclass(frozen=True)
class Objective:
    """L(θ) = Σ wℓ(θ) / Σ w over the examples of a split.

    `model`, `losses` and `weigh` are those of the problem. `data` is a streamed dataset, or tensors of shape (N, …) in
    the structure of the problem's data. The tensors are on the device if they fit there, and on the host otherwise.
    `scale` is the function that must still be applied to each batch, or None.

    `groups(batch)` returns the index into `classes` of each loss, with shape (B,) or (B, S). It is None if classes are
    not distinguished. `classes` lists the labels in ascending order. It may be empty for data in memory, in which case
    the groups are 0, …, n − 1. `labels` contains the label of each example, with shape (N,), on the host. It is None if
    labels are not needed, or if the parts of an example have separate labels. `n_of_class` maps each label to its
    number of examples in the whole split. `data` may be a subset of the split.

    `batch_dependence` is the measured relative change in the losses of a few examples when their batch is halved.
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
    batch_dependence: float = 0.0

    @property
    def mixes_examples(self) -> bool:
        """Whether an example's loss depends on the others in its batch, so that L depends on the batch size."""
        return _mixes_examples(self.model, self.batch_dependence)

    @property
    def n_examples(self) -> int:
        """N, the number of examples over which L is averaged."""
        return count_examples(self.data)

    @property
    def n_in_split(self) -> int:
        """The number of examples in the whole split."""
        return sum(self.n_of_class.values()) or self.n_examples

    def take_first(self, n: int) -> "Objective":
        """Return the objective over the first n examples, in memory and without classes."""
        return replace(self, data=take_first(self.data, n), groups=None, classes=[], labels=None, n_of_class={})

    def map_data(self, function: Callable[[Batch], Batch]) -> "Objective":
        """Return the objective with `function` applied to its data, or to each batch of a streamed dataset."""
        return replace(self, data=map_batches(self.data, function))


def prepare(
    problem: Problem,
    split: str,
    device: torch.device,
    *,
    n_examples: int | None = None,
    seed: int = 0,
    by_class: bool = False,
    batch_dependence: float = 0.0,
) -> Objective:
    """Prepare the objective over a split, or over a subset of it, for passes on the device.

    `n_examples` is the size of the subset, which is drawn with the random seed `seed` and stratified by the problem's
    groups. If the problem has no groups, or if the parts of an example have separate labels, the subset is drawn
    uniformly. `by_class` distinguishes classes. Examples in memory are then sorted by class, unless BatchNorm or
    `batch_dependence` shows that an example's loss depends on the others in its batch.
    """
    data = problem.split(split)
    N = count_examples(data)
    if n_examples is not None and not 1 <= n_examples <= N:
        expected = f"1 to {N:,}, the size of the {split} split of {problem.name}"
        raise UsageError("examples", expected=expected, found=f"{n_examples:,}")
    if by_class and problem.groups is None:
        raise UsageError(
            f"{problem.name} has no groups by which to split the LCA",
            remedy=("Pass Problem(…, groups=lambda batch: …), or leave out ", Argument("by_class"), "."),
        )
    labels, classes = _find_labels(problem, data) if problem.groups and (by_class or n_examples) else (None, [])
    if by_class and len(classes) > MAX_CLASSES:
        raise UsageError(
            f"the number of classes of {problem.name}",
            expected=f"at most {MAX_CLASSES:,}",
            found=f"{len(classes):,}",
            remedy=("Define coarser groups, or leave out ", Argument("by_class"), "."),
        )
    n_of_class = dict(Counter(labels.tolist())) if labels is not None else {0: N}
    index = np.arange(N)
    if n_examples is not None:
        index = draw_stratified(np.zeros(N, np.int64) if labels is None else labels, n_examples, seed)
        classes = classes if labels is None else np.unique(labels[index]).tolist()
    in_memory = not isinstance(data, StreamedDataset)
    if by_class and labels is not None and in_memory and not _mixes_examples(problem.model, batch_dependence):
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
        batch_dependence,
    )


def require_supported(problem: Problem, split: str, device: torch.device) -> None:
    """Raise UsageError if the model or the data of a split are in float64 and the device has no float64."""
    if has_float64(device):
        return
    tensors: dict[str, Tensor] = {f"the parameter {name}": x for name, x in problem.model.named_parameters()}
    tensors |= {f"the buffer {name}": x for name, x in problem.model.named_buffers()}
    data = get_named_tensors(take_first(problem.split(split), 1))
    tensors |= {f"the tensor {name or '/'} of the {split} split": x for name, x in data}
    if in_float64 := [name for name, x in tensors.items() if x.dtype == torch.float64]:
        raise UsageError(
            f"{device} has no float64",
            expected="a model and data in float32",
            found=f"{in_float64[0]} in float64",
            remedy=("Convert the model and the data to float32, or pass ", Argument("device", "cpu"), "."),
        )


def _mixes_examples(model: nn.Module, batch_dependence: float) -> bool:
    return has_batchnorm(model) or batch_dependence > SAME_LOSS


def move_to_device(
    data: "Batch | StreamedDataset", scale: Callable[[Batch], Batch] | None, device: torch.device
) -> "tuple[Batch | StreamedDataset, Callable[[Batch], Batch] | None]":
    """Move data to the device if they fit there, and scale them if the result fits as well.

    Streamed data are returned unchanged. The second result is the function that must still be applied to each batch, or
    None if the data are scaled.
    """
    if isinstance(data, StreamedDataset):
        return data, scale
    n_bytes = sum(x.nbytes for x in get_tensors(data) if x.device != device)
    if device.type != "cpu" and n_bytes > DEVICE_SHARE * get_memory_bytes(device):
        return map_tensors(data, lambda x: pin(x.cpu()) if is_asynchronous(device) else x.cpu()), scale
    data = map_tensors(data, lambda x: x.to(device))
    if scale is None:
        return data, None
    one = scale(take(data, slice(1)))
    n_bytes = length(data) * sum(x.nbytes for x in get_tensors(one))
    return (scale(data), None) if n_bytes <= SCALED_SHARE * get_memory_bytes(device) else (data, scale)


def _find_labels(problem: Problem, data: "Batch | StreamedDataset") -> tuple[NDArray[np.int64] | None, list[int]]:
    """Return the label of each example, with shape (N,), and the sorted labels that occur with a positive weight.

    The first result is None if the parts of an example have separate labels.
    """
    assert problem.groups is not None
    found, classes = [], set()
    for batch in iterate_pieces(data, problem.scale):
        labels, weights = compute_labels(problem.groups, batch).cpu(), compute_weights(problem.weigh, batch)
        if weights is not None and weights.shape == labels.shape:
            classes |= set(torch.unique(labels[weights.cpu() > 0]).tolist())
        else:
            classes |= set(torch.unique(labels).tolist())
        if labels.ndim == 1:  # labels of parts, such as tokens, may not fit into memory
            found.append(labels.numpy().astype(np.int64))
    return np.concatenate(found) if found else None, sorted(classes)


def _index_groups(groups: Callable[[Batch], Tensor], classes: list[int]) -> Callable[[Batch], Tensor]:
    """Return a function that computes groups(batch) as indices into `classes`.

    A label that is not in `classes` has weight 0, so its index is arbitrary.
    """

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
