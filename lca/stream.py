"""Data sets: read into memory where they fit, else read anew at every pass, in their order and ahead of their use."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import chain, islice, pairwise
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from lca.batch import Batch, cut, joined, length, mapped, named, taken, tensors
from lca.device import memory
from lca.errors import UsageError

T = TypeVar("T")

READ_AT_ONCE = 1_024  # examples that are put together, where nothing else decides how many
FITS = 0.25  # part of the host's memory that a data set may take; over that it is streamed


class Stream:
    """The examples of a data set that does not fit into memory, in its order, as batches of tensors on the host.

    Of a DataLoader its data set, collate_fn and workers are used; its order and the size of its batches are not.
    """

    def __init__(self, source: "Dataset[Any] | DataLoader[Any]") -> None:
        dataset: Any = source
        self.collate, self.workers = default_collate, 0
        if isinstance(source, DataLoader):
            dataset, self.workers = source.dataset, source.num_workers
            if source.batch_sampler is not None:  # else its collate_fn is for single examples
                self.collate = source.collate_fn
        self.dataset = dataset
        self.is_iterable = isinstance(dataset, IterableDataset)
        self.picked: Sequence[int] | None = None  # some of the examples, ascending
        self._functions: tuple[Callable[[Batch], Batch], ...] = ()
        self._length = 0 if self.is_iterable else len(dataset)

    def __len__(self) -> int:
        """How many examples; of an iterable data set what was counted when it was read first."""
        return self._length if self.picked is None else len(self.picked)

    def batches(self, size: int) -> Iterable[Batch]:
        """All of them in order, as often as it is iterated; workers read ahead."""
        if self.is_iterable:
            dataset = self.dataset if self.picked is None else _Picked(self.dataset, self.picked)
            return self._loaded(dataset, batch_size=size)
        index = range(len(self.dataset)) if self.picked is None else self.picked
        return self._loaded(self.dataset, batch_sampler=[index[i : i + size] for i in range(0, len(index), size)])

    def drawn(self, indices: Iterable[Tensor]) -> Iterable[Batch]:
        """A batch of each of the indices (B,), in any order; once."""
        if self.is_iterable:
            raise UsageError(
                "an iterable data set that does not fit into memory has no random order to be trained in. Train it in "
                "a loop of your own with lca.Recorder; lca.allocate takes it as it is."
            )
        return self._loaded(self.dataset, batch_sampler=(index.tolist() for index in indices))

    def head(self, n: int) -> Batch:
        """The first n examples, or all where there are fewer."""
        first = list(islice(self.batches(min(n, READ_AT_ONCE)), -(-n // READ_AT_ONCE)))
        return taken(joined(first), slice(n))

    def pick(self, index: Sequence[int]) -> "Stream":
        """Some of the examples, by their numbers, ascending."""
        some = copy(self)
        some.picked = list(index)
        return some

    def map(self, function: Callable[[Batch], Batch]) -> Self:
        """The same with function(batch) for each batch."""
        changed = copy(self)
        changed._functions = (*self._functions, function)
        return changed

    def read(self) -> "Batch | Stream":
        """All of it in memory, if it fits there and its batches can be joined; else itself, now with its length."""
        limit = FITS * memory(torch.device("cpu"))
        parts: list[Batch] | None = []
        n = n_bytes = 0
        for batch in self.batches(READ_AT_ONCE):
            n += length(batch)
            n_bytes += sum(x.nbytes for x in tensors(batch))
            if parts is not None and n_bytes <= limit and _alike(batch, parts):
                parts.append(batch)
            else:
                parts = None
                if not self.is_iterable:
                    return self
        self._length = n
        if parts is None:
            return self
        return joined(parts) if parts else ()

    def _loaded(self, dataset: Any, **how: Any) -> "_Loaded":
        # More than one worker would each read the whole of an iterable data set.
        workers = min(self.workers, 1) if self.is_iterable else self.workers
        loader: DataLoader[Any] = DataLoader(
            dataset,
            collate_fn=self.collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # no random state but the data set's own is touched
            **how,
        )
        return _Loaded(loader, self._functions)


class _Loaded:
    """The batches of a loader, as often as it is iterated, with functions applied to each."""

    def __init__(self, loader: "DataLoader[Any]", functions: Sequence[Callable[[Batch], Batch]]) -> None:
        self.loader, self.functions = loader, functions

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            for function in self.functions:
                batch = function(batch)
            yield batch


class _Picked(IterableDataset[Any]):
    def __init__(self, dataset: "IterableDataset[Any]", picked: Sequence[int]) -> None:
        self.dataset, self.picked = dataset, frozenset(picked)

    def __iter__(self) -> Iterator[Any]:
        return (example for i, example in enumerate(self.dataset) if i in self.picked)


def read(source: "Dataset[Any] | DataLoader[Any]") -> "Batch | Stream":
    """Every example of a data set, in its order: in memory if it fits there, else as a Stream."""
    if type(source) is TensorDataset:  # and none that makes something else of its tensors
        return tuple(source.tensors)
    return Stream(source).read()


def count(data: "Batch | Stream") -> int:
    """How many examples."""
    return len(data) if isinstance(data, Stream) else length(data)


def head(data: "Batch | Stream", n: int) -> Batch:
    """The first n examples, in memory."""
    return data.head(n) if isinstance(data, Stream) else taken(data, slice(n))


def changed(data: "Batch | Stream", function: Callable[[Batch], Batch]) -> "Batch | Stream":
    """The same with function(batch) for the whole, or for each batch of a stream."""
    return data.map(function) if isinstance(data, Stream) else function(data)


def pieces(data: "Batch | Stream", scale: Callable[[Batch], Batch] | None = None) -> Iterable[Batch]:
    """All of it, in pieces that are small enough to be scaled."""
    parts = data.batches(READ_AT_ONCE) if isinstance(data, Stream) else cut(data, READ_AT_ONCE)
    return map(scale, parts) if scale else parts


def ahead(batches: Iterable[tuple[Batch, T]], device: torch.device) -> Iterator[tuple[Batch, T]]:
    """Batches, each with something that goes with it, on the device.

    On CUDA each is copied while the one before it is in use; the host waits for none of them.
    """
    if device.type != "cuda":
        yield from batches
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied(item: tuple[Batch, T]) -> tuple[Batch, T, torch.cuda.Event]:
        with torch.cuda.stream(copies):
            there = mapped(item[0], lambda x: x.pin_memory().to(device, non_blocking=True))
        return there, item[1], copies.record_event()

    for now, _ in pairwise(chain(map(copied, batches), [None])):
        assert now is not None
        batch, beside, arrived = now
        current = torch.cuda.current_stream(device)
        current.wait_event(arrived)
        for x in tensors(batch):
            x.record_stream(current)  # or its memory would be given to a later copy while it is still read
        yield batch, beside


def _alike(batch: Batch, parts: Sequence[Batch]) -> bool:
    """Whether the batch can be joined to those parts: tensors of the same dtypes, and shapes but for the first axis."""
    return not parts or _form(batch) == _form(parts[0])


def _form(batch: Batch) -> dict[str, tuple[Any, ...]]:
    return {name: (x.dtype, *x.shape[1:]) for name, x in named(batch)}
