"""Data sets: read into memory where they fit, else read anew at every pass, in their order and ahead of their use."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import cache, partial
from itertools import chain, pairwise
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from lca.errors import LCAError, UsageError
from lca.problem.batches import (
    Batch,
    concatenate,
    get_named_tensors,
    get_tensors,
    length,
    map_tensors,
    split_batch,
    take,
)
from lca.runtime.device import get_memory_bytes
from lca.runtime.workers import count_sharing

T = TypeVar("T")

READ_AT_ONCE = 128  # examples of a data set, of which every worker has several such batches ready
PIECE = 1_024  # examples in memory that are scaled at once, where no gradient is wanted
HOST_SHARE = 0.25  # of the host's memory, that data sets may take; over that one is streamed

# Samplers that give each example once; what they say of order and of shares does not matter.
PLAIN_SAMPLERS = (SequentialSampler, RandomSampler, DistributedSampler)


class StreamedDataset:
    """The examples of a data set that does not fit into memory, in its order, as batches of tensors on the host.

    Of a DataLoader its data set, collate_fn and workers are used; its order and the size of its batches are not.
    """

    def __init__(self, source: "Dataset[Any] | DataLoader[Any]") -> None:
        dataset: Any = source
        self.collate: Callable[[list[Any]], Any] = default_collate
        self._workers: dict[str, Any] = {}
        if isinstance(source, DataLoader):
            dataset = source.dataset
            _require_plain(source)
            if source.batch_sampler is not None:  # else its collate_fn is for single examples
                self.collate = source.collate_fn
            # More than one worker would each read the whole of an iterable data set.
            n = min(source.num_workers, 1) if isinstance(dataset, IterableDataset) else source.num_workers
            if n:
                start = partial(_start_worker, source.worker_init_fn)
                context = source.multiprocessing_context
                self._workers = {"num_workers": n, "worker_init_fn": start}
                self._workers |= {"multiprocessing_context": context} if context else {}
        self.dataset = dataset
        self.is_iterable = isinstance(dataset, IterableDataset)
        self.selected: Sequence[int] | None = None  # some of the examples, ascending
        self._functions: tuple[Callable[[Batch], Batch], ...] = ()
        self._length = 0 if self.is_iterable else len(dataset)

    def __len__(self) -> int:
        """How many examples; of an iterable data set what was counted when it was read first."""
        return self._length if self.selected is None else len(self.selected)

    def batches(self, size: int, *, often: bool = False) -> Iterable[Batch]:
        """All of them in order, as often as it is iterated; workers read ahead, and stay if that will be often."""
        how = {**self._workers, "persistent_workers": often and bool(self._workers)}
        return self._load(**self._order(size), **how)

    def draw(self, indices: Iterable[Tensor]) -> Iterable[Batch]:
        """A batch of each of the indices (B,), in any order; once."""
        if self.is_iterable:
            raise UsageError(
                "an iterable data set that does not fit into memory has no random order to be trained in. Train it in "
                "a loop of your own with lca.Recorder; lca.allocate takes it as it is."
            )
        return self._load(dataset=self.dataset, batch_sampler=(index.tolist() for index in indices), **self._workers)

    def take_first(self, n: int) -> Batch:
        """The first n examples, or all where there are fewer; read without workers, beside those there may be."""
        first = next(iter(self._load(**self._order(n))), None)
        if first is None:
            raise LCAError("the data set gives no example when it is read again; it has to give all of them each time.")
        return first

    def select(self, index: Sequence[int]) -> "StreamedDataset":
        """Some of the examples, by their numbers, ascending."""
        some = copy(self)
        some.selected = list(index)
        return some

    def map(self, function: Callable[[Batch], Batch]) -> Self:
        """The same with function(batch) for each batch."""
        map_batches = copy(self)
        map_batches._functions = (*self._functions, function)
        return map_batches

    def read(self, in_memory: int = 0) -> "Batch | StreamedDataset":
        """All of it in memory, if it fits there and its batches can be joined; else itself, now with its length.

        in_memory: bytes of other data sets that are there already.
        """
        self._require_the_same_twice()
        host = torch.device("cpu")
        limit = HOST_SHARE * get_memory_bytes(host) // count_sharing(host) - in_memory
        parts: list[Batch] | None = []
        n = n_bytes = 0
        for batch in self.batches(READ_AT_ONCE):
            n += length(batch)
            n_bytes += sum(x.nbytes for x in get_tensors(batch))
            if len({len(x) for x in get_tensors(batch)}) > 1:
                raise ValueError(
                    f"a batch has tensors of {' and '.join(str(len(x)) for x in get_tensors(batch))} examples"
                )
            if parts is not None and n_bytes <= limit and _can_join(batch, parts):
                parts.append(batch)
            else:
                parts = None
                if not self.is_iterable:
                    return self
        self._length = n
        if parts is None:
            return self
        return concatenate(parts) if parts else ()

    def _require_the_same_twice(self) -> None:
        """Of a data set whose examples have numbers; others would have to be begun anew."""
        if self.is_iterable or not len(self):
            return
        once, again = (get_tensors(self.collate([self.dataset[0]])) for _ in range(2))
        if not all(a.shape == b.shape and bool(((a == b) | (a != a)).all()) for a, b in zip(once, again, strict=True)):
            raise UsageError(
                "the data set gives another example 0 each time it is asked, and L is the loss over fixed examples. "
                "Switch random augmentation off here; a loop of your own may train with it, recorded by lca.Recorder."
            )

    def _order(self, size: int) -> dict[str, Any]:
        if self.is_iterable:
            dataset = self.dataset if self.selected is None else _Selected(self.dataset, self.selected)
            return {"dataset": dataset, "batch_size": size}
        index = range(len(self.dataset)) if self.selected is None else self.selected
        in_order = [index[i : i + size] for i in range(0, len(index), size)]
        return {"dataset": self.dataset, "batch_sampler": in_order}

    def _load(self, **how: Any) -> "_Batches":
        # A generator of its own, so that no random state but the data set's is touched.
        return _Batches(DataLoader(**how, collate_fn=self.collate, generator=torch.Generator()), self._functions)


class _Batches:
    """The batches of a loader, as often as it is iterated, with functions applied to each."""

    def __init__(self, loader: "DataLoader[Any]", functions: Sequence[Callable[[Batch], Batch]]) -> None:
        self.loader, self.functions = loader, functions

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            for function in self.functions:
                batch = function(batch)
            yield batch


class _Selected(IterableDataset[Any]):
    def __init__(self, dataset: "IterableDataset[Any]", picked: Sequence[int]) -> None:
        self.dataset, self.selected = dataset, frozenset(picked)

    def __iter__(self) -> Iterator[Any]:
        return (example for i, example in enumerate(self.dataset) if i in self.selected)


def read_dataset(source: "Dataset[Any] | DataLoader[Any]", in_memory: int = 0) -> "Batch | StreamedDataset":
    """Every example of a data set, in its order: in memory if it fits there beside the others, else as a Stream."""
    if type(source) is TensorDataset:  # and none that makes something else of its tensors
        return tuple(source.tensors)
    return StreamedDataset(source).read(in_memory)


def count_examples(data: "Batch | StreamedDataset") -> int:
    """How many examples."""
    return len(data) if isinstance(data, StreamedDataset) else length(data)


def take_first(data: "Batch | StreamedDataset", n: int) -> Batch:
    """The first n examples, in memory."""
    return data.take_first(n) if isinstance(data, StreamedDataset) else take(data, slice(n))


def map_batches(data: "Batch | StreamedDataset", function: Callable[[Batch], Batch]) -> "Batch | StreamedDataset":
    """The same with function(batch) for the whole, or for each batch of a stream."""
    return data.map(function) if isinstance(data, StreamedDataset) else function(data)


def iterate_pieces(data: "Batch | StreamedDataset", scale: Callable[[Batch], Batch] | None = None) -> Iterable[Batch]:
    """All of it, in pieces that are small enough to be scaled."""
    parts = data.batches(READ_AT_ONCE) if isinstance(data, StreamedDataset) else split_batch(data, PIECE)
    return map(scale, parts) if scale else parts


def prefetch(batches: Iterable[tuple[Batch, T]], device: torch.device) -> Iterator[tuple[Batch, T]]:
    """Batches, each with something that goes with it, on the device.

    On CUDA each is copied while the one before it is in use; the host waits for none of them, and three are there at
    most: the memory of one that is not in use any more is that of the next but one, for a copy waits for all that was
    asked of the device before it.
    """
    if device.type != "cuda":
        for batch, beside in batches:
            yield map_tensors(batch, lambda x: x.to(device)), beside
        return
    copies = _copy_stream(device)

    def copy_ahead(item: tuple[Batch, T]) -> tuple[Batch, T, torch.cuda.Event]:
        copies.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(copies):
            there = map_tensors(item[0], lambda x: _pin(x).to(device, non_blocking=True))
        return there, item[1], copies.record_event()

    for now, _ in pairwise(chain(map(copy_ahead, batches), [None])):
        assert now is not None
        batch, beside, arrived = now
        torch.cuda.current_stream(device).wait_event(arrived)
        yield batch, beside


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all passes, for memory that was given to one stream is of no use to another."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pin(x: Tensor) -> Tensor:
    """From where it can be copy_ahead without being waited for."""
    return x if x.is_cuda or x.is_pinned() else x.pin_memory()


def _start_worker(own: Callable[[int], None] | None, number: int) -> None:
    """Ctrl-C is for the main process, which may want to read on until it has come to a good end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if own:
        own(number)


def _require_plain(loader: "DataLoader[Any]") -> None:
    """Raise where a loader gives other examples than its data set has, or other batches than of these."""
    if isinstance(loader.dataset, IterableDataset):
        if loader.batch_sampler is None:
            raise UsageError(
                "the DataLoader has batch_size=None, so that its data set gives batches, and lca wants examples. Give "
                "it a data set of single examples, and any batch_size."
            )
        return
    sampler, batch_sampler = loader.sampler, loader.batch_sampler
    if not isinstance(sampler, PLAIN_SAMPLERS) or type(batch_sampler) not in (BatchSampler, type(None)):
        found = sampler if type(batch_sampler) in (BatchSampler, type(None)) else batch_sampler
        raise UsageError(
            f"the DataLoader has a {type(found).__name__}, and L is the mean over the data set, each example once. "
            "For a part of it give torch.utils.data.Subset(dataset, indices); for weights, Problem(…, weigh=…)."
        )


def _can_join(batch: Batch, parts: Sequence[Batch]) -> bool:
    """Whether the batch can be joined to those parts: tensors of the same dtypes, and shapes but for the first axis."""
    return not parts or _describe_form(batch) == _describe_form(parts[0])


def _describe_form(batch: Batch) -> dict[str, tuple[Any, ...]]:
    return {name: (x.dtype, *x.shape[1:]) for name, x in get_named_tensors(batch)}
