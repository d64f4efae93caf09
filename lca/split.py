"""Which examples make up L, in which order, and where they are kept."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lca.batch import Batch, length, mapped, taken, tensors
from lca.errors import UsageError
from lca.gradient import has_batchnorm
from lca.problem import Problem

MAX_CLASSES = 1_000
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
FITS = 0.25  # part of the memory that the scaled split may take; over that it stays as it is stored


@dataclass(frozen=True)
class Split:
    """The examples of L on the device, in the order of the passes.

    data: tensors (N, …), nested as the problem has them. scale: what is still to be done to each batch of them; None
    if nothing is.
    groups: (N,) the index into classes of each example; None where classes are not told apart.
    classes: their labels, ascending. labels: (N,) those of the examples, on the host; None where there are none.
    n_of_class: by label, how many examples the whole split has, of which the N may be a part.
    """

    data: Batch
    scale: Callable[[Batch], Batch] | None
    groups: Tensor | None
    classes: list[int]
    labels: NDArray[np.int64] | None
    n_of_class: dict[int, int]

    @property
    def n_examples(self) -> int:
        return length(self.data)

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
    without groups it is drawn from all alike). by_class: told apart; without BatchNorm in the order of their classes.
    """
    data = problem.split(split)
    N = length(data)
    if n_examples is not None and not 1 <= n_examples <= N:
        raise UsageError(f"{n_examples:,} examples were asked for; the {split} split of {problem.name} has {N:,}.")
    if by_class and problem.groups is None:
        raise UsageError(f"{problem.name} has no groups, which --by-class needs: Problem(…, groups=lambda batch: …).")
    labels = None
    if problem.groups and (by_class or n_examples):
        labels = problem.groups(data).cpu().numpy().astype(np.int64)
    n_of_class = dict(Counter(labels.tolist())) if labels is not None else {0: N}
    if by_class and len(n_of_class) > MAX_CLASSES:
        raise UsageError(
            f"{problem.name} has {len(n_of_class):,} classes; --by-class takes at most {MAX_CLASSES:,}. "
            "Give the problem coarser groups, or leave --by-class away."
        )
    index = np.arange(N)
    if n_examples is not None:
        index = stratified(np.zeros(N, np.int64) if labels is None else labels, n_examples, seed)
    if by_class and labels is not None and not has_batchnorm(problem.model):
        index = index[np.argsort(labels[index], kind="stable")]
    if not np.array_equal(index, np.arange(N)):
        order = torch.from_numpy(index)
        data = mapped(data, lambda x: x[order.to(x.device)])
        labels = None if labels is None else labels[index]
    classes = [] if labels is None else np.unique(labels).tolist()
    groups = torch.from_numpy(np.searchsorted(classes, labels)).to(device) if by_class and labels is not None else None
    data, scale = on_device(data, problem.scale, device)
    return Split(data, scale, groups, classes, labels, n_of_class)


def on_device(
    data: Batch, scale: Callable[[Batch], Batch] | None, device: torch.device
) -> tuple[Batch, Callable[[Batch], Batch] | None]:
    """The data on the device: scaled at once if that fits into a part of its memory, else with the scale yet to do."""
    data = mapped(data, lambda x: x.to(device))
    if scale is None:
        return data, None
    one = scale(taken(data, slice(1)))
    n_bytes = length(data) * sum(x.nbytes for x in tensors(one))
    return (scale(data), None) if n_bytes <= FITS * memory(device) else (data, scale)


def memory(device: torch.device) -> int:
    """Bytes: what this process can have of a CUDA device; all that there is on a host, or in its container."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return whole


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


def standard_error(losses: NDArray[np.float64], split: Split) -> float:
    """Of the mean of losses (N,) over a subset, as an estimate of that over the whole split.

    Strata are the classes: √(Σ_c (N_c/N)² (1 − n_c/N_c) s_c²/n_c)     [Cochran 1977, Sampling Techniques, eq. 5.9]
    A class with a single example in the subset is given the variance of all of them.
    """
    labels = np.zeros(len(losses), np.int64) if split.labels is None else split.labels
    total = 0.0
    for label, N_c in split.n_of_class.items():
        part = losses[labels == label]
        n_c = len(part)
        if n_c == 0:
            continue
        variance = float(np.var(part if n_c > 1 else losses, ddof=1)) if len(losses) > 1 else np.nan
        total += (N_c / split.n_total) ** 2 * (1 - n_c / N_c) * variance / n_c
    return float(np.sqrt(total))
