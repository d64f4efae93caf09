"""The batches of a pass over the examples of an objective, with their weights and classes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from lca.errors import LCAError
from lca.problem.batches import Batch, get_tensors, length, map_tensors, split_batch, take
from lca.problem.losses import compute_weights
from lca.problem.objective import Objective
from lca.problem.prefetching import prefetch
from lca.problem.streaming import StreamedDataset, iterate_pieces


@dataclass(frozen=True)
class Piece:
    """A batch of a pass, before its values are scaled.

    `weights` are the weights of its losses, or None if all are 1. `groups` is the class index of each loss, or None if
    the LCA is not split by class. `classes` maps each class index that occurs in the batch to its number of losses, in
    ascending order of the indices.
    """

    batch: Batch
    weights: Tensor | None
    groups: Tensor | None
    classes: dict[int, int]

    @property
    def has_group_per_example(self) -> bool:
        return self.groups is not None and self.groups.ndim == 1

    def expand_groups(self, losses: Tensor) -> Tensor:
        """Return the groups in the shape of the losses, (B,) or (B, S). Raise LCAError if there are more of them."""
        groups = cast(Tensor, self.groups)
        if groups.ndim > losses.ndim:
            raise LCAError(
                "the labels returned by groups(batch)",
                expected=f"one label per loss, shape {tuple(losses.shape)}, or one per example",
                found=f"shape {tuple(groups.shape)}",
            )
        return groups.reshape(*groups.shape, *[1] * (losses.ndim - groups.ndim)).expand_as(losses)

    def split_by_class(self) -> "list[Piece]":
        """Return one piece for each class. Requires one group per example."""
        groups, weights = cast(Tensor, self.groups), self.weights
        rows = torch.split(torch.argsort(groups, stable=True), list(self.classes.values()))
        return [
            Piece(take(self.batch, index), None if weights is None else weights[index], groups[index], {c: len(index)})
            for c, index in zip(self.classes, rows, strict=True)
        ]


class Pieces:
    """The pieces of an objective, on the device. They can be iterated repeatedly.

    `in_order_of_class` is True if every piece holds examples of a single class and the classes are in ascending order.
    This requires data that are in memory and sorted by class, one label per example, and losses that do not depend on
    the other examples of the batch. `n_classes` is the number of classes.
    """

    def __init__(self, objective: Objective, batch_size: int, device: torch.device) -> None:
        self.objective, self.batch_size, self.device = objective, batch_size, device
        self.in_order_of_class, self._parts = self._split()
        self.n_classes = len(objective.classes)
        if objective.groups is not None and not self.n_classes:
            self.n_classes = 1 + max(c for _, classes in self._parts for c in classes)

    @property
    def are_on_device(self) -> bool:
        """Whether all data are in the memory of the device, so that no piece has to be copied."""
        data = self.objective.data
        return not isinstance(data, StreamedDataset) and all(x.device == self.device for x in get_tensors(data))

    def __iter__(self) -> Iterator[Piece]:
        n, N = 0, self.objective.n_examples
        for parts, classes in self._parts if self.are_on_device else prefetch(self._parts, self.device):
            n += length(parts)
            yield Piece(parts["batch"], parts.get("weights"), parts.get("groups"), classes)
        if n != N:
            raise LCAError(
                "the number of examples in a pass",
                expected=f"{N:,}",
                found=f"{n:,}",
                remedy="A dataset must yield the same examples in every pass, and its collate_fn must keep them all.",
            )

    def close(self) -> None:
        """Release the data and the workers that read them."""
        self._parts = []

    def sum_weights(self) -> float:
        """Return Σ w over the split. Raise LCAError if a weight is negative or the sum is not positive and finite."""
        objective = self.objective
        if objective.weigh is None:
            return float(objective.n_examples)
        total, smallest = 0.0, 0.0
        for batch in iterate_pieces(objective.data, objective.scale):
            weights = cast(Tensor, compute_weights(objective.weigh, batch)).cpu()
            total += float(weights.sum(dtype=torch.float64))
            smallest = min(smallest, float(weights.min()))
        if not 0 < total < float("inf") or smallest < 0:
            expected, found = (
                "no negative weight and a finite sum above 0",
                f"the sum {total:g} and the minimum {smallest:g}",
            )
            raise LCAError("the weights returned by weigh(batch)", expected=expected, found=found)
        return total

    def _split(self) -> tuple[bool, Iterable[tuple[Batch, dict[int, int]]]]:
        """Return the value of `in_order_of_class`, and the batches with their weights, groups and classes."""
        data, size = self.objective.data, self.batch_size
        if isinstance(data, StreamedDataset):
            return False, data.map(self._add_weights_and_groups).batches(size, often=True)
        parts, _ = self._add_weights_and_groups(data)
        groups = parts.get("groups")
        if groups is None:
            return False, [(part, {}) for part in split_batch(parts, size)]
        if self.objective.mixes_examples or groups.ndim > 1 or bool((groups.diff() < 0).any()):
            return False, [(part, _count_classes(part["groups"])) for part in split_batch(parts, size)]
        ends = [0, *torch.bincount(groups).cumsum(0).tolist()]
        by_class = [map_tensors(parts, lambda x, a=a, b=b: x[a:b]) for a, b in pairwise(ends)]  # type: ignore[misc]
        return True, [
            (part, {c: length(part)})
            for c, part in enumerate(by_class)
            if length(part)
            for part in split_batch(part, size)
        ]

    def _add_weights_and_groups(self, batch: Batch) -> tuple[Batch, dict[int, int]]:
        """Return the batch in a dict with any weights and groups of its losses, and the classes that occur in it."""
        weigh, groups, scale = self.objective.weigh, self.objective.groups, self.objective.scale
        parts = {"batch": batch}
        if weigh:
            parts["weights"] = torch.cat(
                [cast(Tensor, compute_weights(weigh, x)) for x in iterate_pieces(batch, scale)]
            )
        if groups:
            parts["groups"] = torch.cat([groups(x) for x in iterate_pieces(batch, scale)])
        return parts, _count_classes(parts["groups"]) if groups else {}


def _count_classes(groups: Tensor) -> dict[int, int]:
    """Return the number of losses of each class that occurs, by its index, in ascending order."""
    classes, counts = torch.unique(groups, return_counts=True)
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))
