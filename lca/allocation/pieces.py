"""The batches of a pass over the examples of an objective."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from lca.errors import LCAError
from lca.model.evaluation_mode import has_batchnorm, is_narrower
from lca.problem.batches import Batch, get_tensors, length, map_tensors, split_batch
from lca.problem.losses import compute_weights
from lca.problem.objective import Objective
from lca.problem.streaming import StreamedDataset, iterate_pieces, prefetch


@dataclass(frozen=True)
class Piece:
    """A batch of a pass, as the data have it.

    weights: of its losses, None where each weighs 1. groups: the class of each loss, None where classes are not told
    apart. classes: those in it.
    """

    batch: Batch
    weights: Tensor | None
    groups: Tensor | None
    classes: list[int]


class Pieces:
    """Iterates over the pieces of an objective, on the device; as often as wanted.

    in_order_of_class: whether the data are in memory and in the order of their classes, and no BatchNorm asks for other
    batches; then a piece holds examples of one class. n_classes: how many classes there are.
    """

    def __init__(self, objective: Objective, batch_size: int, device: torch.device) -> None:
        self.objective, self.batch_size, self.device = objective, batch_size, device
        self.in_order_of_class, self._parts = self._split()
        self.n_classes = len(objective.classes)
        if objective.groups is not None and not self.n_classes:
            self.n_classes = 1 + max(c for _, classes in self._parts for c in classes)

    @property
    def are_on_device(self) -> bool:
        """Whether no piece has to be copied."""
        data = self.objective.data
        return not isinstance(data, StreamedDataset) and all(x.device == self.device for x in get_tensors(data))

    def __iter__(self) -> Iterator[Piece]:
        n, N = 0, self.objective.n_examples
        for parts, classes in self._parts if self.are_on_device else prefetch(self._parts, self.device):
            n += length(parts)
            yield Piece(parts["batch"], parts.get("weights"), parts.get("groups"), classes)
        if n != N:
            raise LCAError(
                "the examples of a pass",
                expected=f"{N:,}",
                found=f"{n:,}",
                remedy="A dataset has to give the same examples each time, and its collate_fn all that it is given.",
            )

    def close(self) -> None:
        """Release the data and the workers that read them."""
        self._parts = []

    def sum_weights(self) -> float:
        """Σ w over the split; LCAError if there are negative weights, or none above 0."""
        objective = self.objective
        if objective.weigh is None:
            return float(objective.n_examples)
        total, smallest = 0.0, 0.0
        for batch in iterate_pieces(objective.data, objective.scale):
            weights = cast(Tensor, compute_weights(objective.weigh, batch))
            total += float(weights.sum(dtype=torch.float64))
            smallest = min(smallest, float(weights.min()))
        if not 0 < total < float("inf") or smallest < 0:
            found = f"a sum of {total:g} and a smallest weight of {smallest:g}"
            raise LCAError("the weights of weigh(batch)", expected="weights ≥ 0 with a finite sum above 0", found=found)
        return total

    def _split(self) -> tuple[bool, Iterable[tuple[Batch, list[int]]]]:
        """Whether a piece holds one class only, and the batches with their weights, groups and classes."""
        data, size = self.objective.data, self.batch_size
        if isinstance(data, StreamedDataset):
            return False, data.map(self._add_weights_and_groups).batches(size, often=True)
        parts, _ = self._add_weights_and_groups(data)
        groups = parts.get("groups")
        if groups is None:
            return False, [(part, []) for part in split_batch(parts, size)]
        if has_batchnorm(self.objective.model) or groups.ndim > 1 or bool((groups.diff() < 0).any()):
            return False, [(part, torch.unique(part["groups"]).tolist()) for part in split_batch(parts, size)]
        ends = [0, *torch.bincount(groups).cumsum(0).tolist()]
        by_class = [map_tensors(parts, lambda x, a=a, b=b: x[a:b]) for a, b in pairwise(ends)]  # type: ignore[misc]
        return True, [
            (part, [c]) for c, part in enumerate(by_class) if length(part) for part in split_batch(part, size)
        ]

    def _add_weights_and_groups(self, batch: Batch) -> tuple[Batch, list[int]]:
        """The batch, the weights and the groups of its losses, as far as there are any; and its classes."""
        weigh, groups, scale = self.objective.weigh, self.objective.groups, self.objective.scale
        parts = {"batch": batch}
        if weigh:
            parts["weights"] = torch.cat(
                [cast(Tensor, compute_weights(weigh, x)) for x in iterate_pieces(batch, scale)]
            )
        if groups:
            parts["groups"] = torch.cat([groups(x) for x in iterate_pieces(batch, scale)])
        return parts, torch.unique(parts["groups"]).tolist() if groups else []


def scale_batch(objective: Objective, batch: Batch, wide: torch.dtype | None) -> Batch:
    """What the losses are computed from. wide: the dtype of a model whose tensors were widened; None if none were."""
    batch = objective.scale(batch) if objective.scale else batch
    return map_tensors(batch, lambda x: x.to(wide) if is_narrower(x, wide) else x) if wide else batch
