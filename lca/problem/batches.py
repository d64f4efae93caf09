"""Functions on batches: tensors whose first dimension indexes the examples, in nested tuples, lists and dicts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lca.model.evaluation_mode import is_narrower

Batch = Any  # Tensor | Sequence[Batch] | Mapping[str, Batch]


def get_tensors(batch: Batch) -> list[Tensor]:
    """Return all tensors of a batch, in order. Raise TypeError if it contains anything else."""
    return list(_leaves(batch))


def get_named_tensors(batch: Batch, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor with the path of keys and indices that leads to it, as in ("/x/0", tensor)."""
    if isinstance(batch, Tensor):
        yield name, batch
        return
    for key, part in batch.items() if isinstance(batch, Mapping) else enumerate(batch):
        yield from get_named_tensors(part, f"{name}/{key}")


def map_tensors(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """Return a batch of the same structure with `function` applied to every tensor."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: map_tensors(part, function) for name, part in batch.items()}
    parts = [map_tensors(part, function) for part in batch]
    if hasattr(batch, "_fields"):  # a named tuple
        return type(batch)(*parts)
    return tuple(parts) if isinstance(batch, tuple) else parts


def length(batch: Batch) -> int:
    """Return the number of examples in a batch."""
    return len(next(_leaves(batch)))


def take(batch: Batch, index: Any) -> Batch:
    """Select examples with a slice or a tensor of indices."""
    return map_tensors(batch, lambda x: x[index])


def split_batch(batch: Batch, size: int) -> list[Batch]:
    """Split a batch into views of `size` examples each. The last one may be shorter."""
    return [take(batch, slice(begin, begin + size)) for begin in range(0, length(batch), size)]


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches of the same structure along the first dimension."""
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat(list(batches))
    if isinstance(first, Mapping):
        return {name: concatenate([batch[name] for batch in batches]) for name in first}
    if not isinstance(first, tuple | list):
        raise TypeError(f"a {type(first).__name__}")
    parts = [concatenate(part) for part in zip(*batches, strict=True)]
    if hasattr(first, "_fields"):
        return type(first)(*parts)
    return tuple(parts) if isinstance(first, tuple) else parts


def scale_batch(scale: Callable[[Batch], Batch] | None, batch: Batch, wide: torch.dtype | None) -> Batch:
    """Apply `scale` to a batch, if it is not None, and convert floating-point tensors that are narrower than `wide`.

    `wide` is the dtype to which the 16-bit tensors of the model were converted. If it is None, nothing is converted.
    """
    batch = scale(batch) if scale else batch
    return map_tensors(batch, lambda x: x.to(wide) if is_narrower(x, wide) else x) if wide else batch


def _leaves(batch: Batch) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for part in batch.values():
            yield from _leaves(part)
    elif isinstance(batch, tuple | list):
        for part in batch:
            yield from _leaves(part)
    else:
        raise TypeError(f"a {type(batch).__name__}")
