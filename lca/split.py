"""Which examples make up L, in which order, and where they are kept."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lca.batch import Batch, length, mapped, taken, tensors
from lca.device import memory
from lca.errors import UsageError
from lca.gradient import has_batchnorm
from lca.problem import Problem, labels_of, weights_of
from lca.stream import Stream, count, pieces

MAX_CLASSES = 1_000
SCALED_SHARE = 0.25  # of the memory, that the scaled split may take; over that it stays as it is stored
DEVICE_SHARE = 0.5  # of a CUDA device's memory, that a split may take; over that it stays on the host


@dataclass(frozen=True)
class Split:
    """The examples of L in the order of the passes.

    data: tensors (N, …), nested as the problem has them, on the device, or on the host where they do not fit there; or
    a stream. scale: what is still to be done to each batch of them; None if nothing is.
    weigh: as the problem's. groups: groups(batch), the index into classes of each loss; None where classes are not told
    apart. classes: their labels, ascending.
    labels: (N,) those of the examples, on the host; None where there are none. n_of_class: by label, how many examples
    the whole split has, of which the N may be a part.
    """

    data: "Batch | Stream"
    scale: Callable[[Batch], Batch] | None
    weigh: Callable[[Batch], Tensor] | None
    groups: Callable[[Batch], Tensor] | None
    classes: list[int]
    labels: NDArray[np.int64] | None
    n_of_class: dict[int, int]

    @property
    def n_examples(self) -> int:
        return count(self.data)

    @property
    def n_total(self) -> int:
        return sum(self.n_of_class.values())


def prepare(
    problem: Problem,
    split: str,
    device: torch.device,
    *,
    n_examples: int | None = None,
    seed: int = 0,
    by_class: bool = False,
) -> Split:
    """The split of a problem, or a part of it, ready for passes on the device.

    n_examples: a subset, drawn by seed, with the classes in it as they are in the split (as the problem's groups tell;
    without a label for each example it is drawn from all alike). by_class: told apart; without BatchNorm examples in
    memory are put in the order of their classes.
    """
    data = problem.split(split)
    N = count(data)
    if n_examples is not None and not 1 <= n_examples <= N:
        raise UsageError(f"{n_examples:,} examples were asked for; the {split} split of {problem.name} has {N:,}.")
    if by_class and problem.groups is None:
        raise UsageError(f"{problem.name} has no groups, which --by-class needs: Problem(…, groups=lambda batch: …).")
    labels, classes = _labels(problem, data) if problem.groups and (by_class or n_examples) else (None, [])
    if by_class and len(classes) > MAX_CLASSES:
        raise UsageError(
            f"{problem.name} has {len(classes):,} classes; --by-class takes at most {MAX_CLASSES:,}. "
            "Give the problem coarser groups, or leave --by-class away."
        )
    n_of_class = dict(Counter(labels.tolist())) if labels is not None else {0: N}
    index = np.arange(N)
    if n_examples is not None:
        index = stratified(np.zeros(N, np.int64) if labels is None else labels, n_examples, seed)
        classes = classes if labels is None else np.unique(labels[index]).tolist()
    if by_class and labels is not None and not isinstance(data, Stream) and not has_batchnorm(problem.model):
        index = index[np.argsort(labels[index], kind="stable")]
    if not np.array_equal(index, np.arange(N)):
        data = _picked(data, index)
        labels = None if labels is None else labels[index]
    data, scale = on_device(data, problem.scale, device)
    groups = _indexed(problem.groups, classes) if by_class and problem.groups else None
    return Split(data, scale, problem.weigh, groups, classes if by_class else [], labels, n_of_class)


def on_device(
    data: "Batch | Stream", scale: Callable[[Batch], Batch] | None, device: torch.device
) -> "tuple[Batch | Stream, Callable[[Batch], Batch] | None]":
    """The data on the device, if they fit there: scaled at once if that fits too, else with the scale yet to do."""
    if isinstance(data, Stream):
        return data, scale
    wanted = sum(x.nbytes for x in tensors(data) if x.device != device)
    if device.type == "cuda" and wanted > DEVICE_SHARE * memory(device):
        return mapped(data, lambda x: x.cpu().pin_memory()), scale  # from where it can be copied without waiting
    data = mapped(data, lambda x: x.to(device))
    if scale is None:
        return data, None
    one = scale(taken(data, slice(1)))
    n_bytes = length(data) * sum(x.nbytes for x in tensors(one))
    return (scale(data), None) if n_bytes <= SCALED_SHARE * memory(device) else (data, scale)


def _labels(problem: Problem, data: "Batch | Stream") -> tuple[NDArray[np.int64] | None, list[int]]:
    """The label (N,) of each example, if there is a single one, and all labels that anything of weight has."""
    assert problem.groups is not None
    found, classes = [], set()
    for batch in pieces(data, problem.scale):
        labels, weights = labels_of(problem.groups, batch).cpu(), weights_of(problem.weigh, batch)
        if weights is not None and weights.shape == labels.shape:
            classes |= set(torch.unique(labels[weights.cpu() > 0]).tolist())
        else:
            classes |= set(torch.unique(labels).tolist())
        if labels.ndim == 1:  # those of parts may be more than there is memory for
            found.append(labels.numpy().astype(np.int64))
    return np.concatenate(found) if found else None, sorted(classes)


def _indexed(groups: Callable[[Batch], Tensor], classes: list[int]) -> Callable[[Batch], Tensor]:
    """groups(batch) as indices into classes. What has a label of no class has no weight, so that any index will do."""

    def indices(batch: Batch) -> Tensor:
        labels = labels_of(groups, batch)
        known = torch.tensor(classes, device=labels.device)
        return torch.searchsorted(known, labels.to(known.dtype).contiguous()).clamp_(max=len(classes) - 1)

    return indices


def _picked(data: "Batch | Stream", index: NDArray[np.int64]) -> "Batch | Stream":
    if isinstance(data, Stream):
        return data.pick(index.tolist()).read()
    order = torch.from_numpy(index)
    return mapped(data, lambda x: x[order.to(x.device)])


def stratified(labels: NDArray[Any], n: int, seed: int) -> NDArray[np.int64]:
    """n ascending indices, drawn without replacement, with each label as often as its share of all, up to rounding."""
    random = np.random.RandomState(seed)  # whose stream numpy keeps the same for good
    found, counts = np.unique(labels, return_counts=True)
    shares = n * counts / len(labels)
    wanted = np.floor(shares).astype(int)
    largest_rests = np.argsort(wanted - shares, kind="stable")
    wanted[largest_rests[: n - wanted.sum()]] += 1
    drawn = [random.permutation(np.flatnonzero(labels == label))[:m] for label, m in zip(found, wanted, strict=True)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def standard_error(losses: NDArray[np.float64], weights: NDArray[np.float64], split: Split) -> float:
    """Of L = Σ losses / Σ weights over a subset, as an estimate of that over the whole split.

    losses: (N,) of each example, weighted; weights: (N,), what each weighs. Where these are 1, L is their mean.
    Strata are the classes: √(Σ_c (N_c/N)² (1 − n_c/N_c) s_c²/n_c), with s_c² of the example's part in the deviation
    from L, (loss − L · weight) / mean weight     [Cochran 1977, Sampling Techniques, eq. 5.9; of a ratio, eq. 6.13]
    A class with a single example in the subset is given the variance of all of them.
    """
    labels = np.zeros(len(losses), np.int64) if split.labels is None else split.labels
    deviations = (losses - losses.sum() / weights.sum() * weights) / weights.mean()
    total = 0.0
    for label, N_c in split.n_of_class.items():
        part = deviations[labels == label]
        n_c = len(part)
        if n_c == 0:
            continue
        variance = float(np.var(part if n_c > 1 else deviations, ddof=1)) if len(losses) > 1 else np.nan
        total += (N_c / split.n_total) ** 2 * (1 - n_c / N_c) * variance / n_c
    return float(np.sqrt(total))
