"""Torch datasets, which are read into memory if they fit, and otherwise streamed in order on every pass."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any, Self

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
    split_batch,
    take,
)
from lca.problem.losses import describe_value
from lca.runtime.device import get_memory_bytes
from lca.runtime.workers import count_sharing

READ_AT_ONCE = 128  # examples per read of a dataset; every worker keeps several such batches ready
PIECE = 1_024  # number of in-memory examples that are scaled at once in passes without gradients
HOST_SHARE = 0.25  # largest fraction of the host's memory for datasets; beyond it, a dataset is streamed

# Samplers that yield each example once. Their order and their division among processes are ignored.
PLAIN_SAMPLERS = (SequentialSampler, RandomSampler, DistributedSampler)


class StreamedDataset:
    """A dataset that does not fit into memory, read in order as batches of tensors on the host.

    `lca.Problem` creates it from a ``Dataset`` or a ``DataLoader``. The dataset, ``collate_fn`` and workers of a
    ``DataLoader`` are used, but its batch size and its order are not.

    Args:
        source: Dataset or data loader to read.

    Raises:
        UsageError: If the data loader skips or repeats examples, or if its dataset yields whole batches.
    """

    def __init__(self, source: "Dataset[Any] | DataLoader[Any]") -> None:
        dataset: Any = source
        self.collate: Callable[[list[Any]], Any] = default_collate
        self._workers: dict[str, Any] = {}
        if isinstance(source, DataLoader):
            dataset = source.dataset
            _require_plain(source)
            if source.batch_sampler is not None:  # without batches, collate_fn is for single examples
                self.collate = source.collate_fn
            # Each of several workers would read the whole iterable dataset.
            n = min(source.num_workers, 1) if isinstance(dataset, IterableDataset) else source.num_workers
            if n:
                start = partial(_start_worker, source.worker_init_fn)
                context = source.multiprocessing_context
                self._workers = {"num_workers": n, "worker_init_fn": start}
                self._workers |= {"multiprocessing_context": context} if context else {}
        self.dataset = dataset
        self.is_iterable = isinstance(dataset, IterableDataset)
        self.selected: Sequence[int] | None = None  # indices of a subset, ascending
        self._functions: tuple[Callable[[Batch], Batch], ...] = ()
        self._length = 0 if self.is_iterable else len(dataset)

    def __len__(self) -> int:
        """Return the number of examples. For an iterable dataset, it is 0 until the first complete read."""
        return self._length if self.selected is None else len(self.selected)

    def batches(self, size: int, *, often: bool = False) -> Iterable[Batch]:
        """Return all batches in order, as an object that can be iterated repeatedly.

        Args:
            size: Number of examples per batch.
            often: Whether to keep the workers alive between passes.
        """
        how = {**self._workers, "persistent_workers": often and bool(self._workers)}
        return self._load(**self._order(size), **how)

    def draw(self, indices: Iterable[Tensor]) -> Iterable[Batch]:
        """Return batches of the examples with the given indices, as an object that can be iterated once.

        Args:
            indices: Indices of the examples of each batch, with shape (B,), in any order.

        Raises:
            UsageError: If the dataset is iterable, because its examples have no indices.
        """
        if self.is_iterable:
            raise UsageError(
                "an iterable dataset that does not fit into memory cannot be shuffled, as training requires",
                remedy="Record your own training loop with lca.Recorder. lca.allocate accepts the dataset.",
            )
        return self._load(dataset=self.dataset, batch_sampler=(index.tolist() for index in indices), **self._workers)

    def take_first(self, n: int) -> Batch:
        """Return the first n examples, or all if there are fewer, without using the workers.

        Args:
            n: Number of examples.

        Raises:
            LCAError: If the dataset yields no examples when it is read again.
        """
        first = next(iter(self._load(**self._order(n))), None)
        if first is None:
            raise LCAError(
                "the dataset yields no examples when it is read again",
                remedy="Make its __iter__ start from the beginning on every call.",
            )
        return first

    def select(self, index: Sequence[int]) -> "StreamedDataset":
        """Return the dataset restricted to some of its examples.

        Args:
            index: Indices of the examples, in ascending order.
        """
        some = copy(self)
        some.selected = list(index)
        return some

    def map(self, function: Callable[[Batch], Batch]) -> Self:
        """Return the dataset with a function applied to every batch.

        Args:
            function: Function from a batch to a batch.
        """
        map_batches = copy(self)
        map_batches._functions = (*self._functions, function)
        return map_batches

    def read(self, in_memory: int = 0) -> "Batch | StreamedDataset":
        """Read all examples into memory if they fit there and their batches can be concatenated.

        Args:
            in_memory: Number of bytes that other datasets already occupy.

        Returns:
            The tensors, or the dataset itself, whose length is then known.

        Raises:
            UsageError: If example 0 differs between two reads.
            ValueError: If the tensors of a batch have different numbers of examples.
        """
        self._require_fixed_examples()
        host = torch.device("cpu")
        limit = HOST_SHARE * get_memory_bytes(host) // count_sharing(host) - in_memory
        parts: list[Batch] | None = []
        n = n_bytes = 0
        for batch in self.batches(READ_AT_ONCE):
            n += length(batch)
            n_bytes += sum(x.nbytes for x in get_tensors(batch))
            if len({len(x) for x in get_tensors(batch)}) > 1:
                raise ValueError(
                    f"a batch has tensors with {' and '.join(str(len(x)) for x in get_tensors(batch))} examples"
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

    def _require_fixed_examples(self) -> None:
        """Raise UsageError if example 0 differs between two reads.

        Iterable datasets are not checked, because every read would start a new pass.
        """
        if self.is_iterable or not len(self):
            return
        once, again = (get_tensors(self.collate([self.dataset[0]])) for _ in range(2))
        if not all(a.shape == b.shape and bool(((a == b) | (a != a)).all()) for a, b in zip(once, again, strict=True)):
            raise UsageError(
                "example 0 of the dataset differs each time it is read, but L is the loss over fixed examples",
                remedy="Turn random augmentation off. To train with it, record your own loop with lca.Recorder.",
            )

    def _order(self, size: int) -> dict[str, Any]:
        if self.is_iterable:
            dataset = self.dataset if self.selected is None else _Selected(self.dataset, self.selected)
            return {"dataset": dataset, "batch_size": size}
        index = range(len(self.dataset)) if self.selected is None else self.selected
        in_order = [index[i : i + size] for i in range(0, len(index), size)]
        return {"dataset": self.dataset, "batch_sampler": in_order}

    def _load(self, **how: Any) -> "_Batches":
        # The separate generator keeps the loader from using the global random state.
        return _Batches(DataLoader(**how, collate_fn=self.collate, generator=torch.Generator()), self._functions)


class _Batches:
    """The batches of a loader, with functions applied to each. They can be iterated repeatedly."""

    def __init__(self, loader: "DataLoader[Any]", functions: Sequence[Callable[[Batch], Batch]]) -> None:
        self.loader, self.functions = loader, functions

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            for function in self.functions:
                batch = function(batch)
            yield batch


class _Selected(IterableDataset[Any]):
    """The subset of an iterable dataset that contains the examples with the given numbers."""

    def __init__(self, dataset: "IterableDataset[Any]", picked: Sequence[int]) -> None:
        self.dataset, self.selected = dataset, frozenset(picked)

    def __iter__(self) -> Iterator[Any]:
        return (example for i, example in enumerate(self.dataset) if i in self.selected)


def read_dataset(source: "Dataset[Any] | DataLoader[Any]", in_memory: int = 0) -> "Batch | StreamedDataset":
    """Read all examples of a dataset in order, as tensors in memory if they fit, otherwise as a stream."""
    if type(source) is TensorDataset:  # not a subclass, which may transform its tensors
        return tuple(source.tensors)
    return StreamedDataset(source).read(in_memory)


def count_examples(data: "Batch | StreamedDataset") -> int:
    """Return the number of examples."""
    return len(data) if isinstance(data, StreamedDataset) else length(data)


def take_first(data: "Batch | StreamedDataset", n: int) -> Batch:
    """Return the first n examples, in memory."""
    return data.take_first(n) if isinstance(data, StreamedDataset) else take(data, slice(n))


def map_batches(data: "Batch | StreamedDataset", function: Callable[[Batch], Batch]) -> "Batch | StreamedDataset":
    """Apply a function to data in memory as a whole, or to each batch of a stream."""
    return data.map(function) if isinstance(data, StreamedDataset) else function(data)


def iterate_pieces(data: "Batch | StreamedDataset", scale: Callable[[Batch], Batch] | None = None) -> Iterable[Batch]:
    """Iterate over all data in pieces that are small enough to be scaled."""
    parts = data.batches(READ_AT_ONCE) if isinstance(data, StreamedDataset) else split_batch(data, PIECE)
    return map(scale, parts) if scale else parts


def _start_worker(own: Callable[[int], None] | None, number: int) -> None:
    """Make a worker ignore Ctrl-C, and call `own`, the user's worker_init_fn, with the number of the worker.

    The main process handles Ctrl-C. It may need further batches from the workers before it stops cleanly.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if own:
        own(number)


def _require_plain(loader: "DataLoader[Any]") -> None:
    """Raise UsageError if the loader skips or repeats examples, or if its dataset yields whole batches."""
    if isinstance(loader.dataset, IterableDataset):
        if loader.batch_sampler is None:
            raise UsageError(
                "the DataLoader has batch_size=None, so its dataset yields whole batches",
                remedy="Pass a DataLoader with a dataset of single examples, and any batch_size.",
            )
        return
    sampler, batch_sampler = loader.sampler, loader.batch_sampler
    if not isinstance(sampler, PLAIN_SAMPLERS) or type(batch_sampler) not in (BatchSampler, type(None)):
        found = sampler if type(batch_sampler) in (BatchSampler, type(None)) else batch_sampler
        raise UsageError(
            "the DataLoader",
            expected="a sampler that yields each example once, because L is the mean over the dataset",
            found=describe_value(found),
            remedy="For a subset, pass torch.utils.data.Subset(dataset, indices). For weights, pass "
            "Problem(…, weigh=…).",
        )


def _can_join(batch: Batch, parts: Sequence[Batch]) -> bool:
    """Return whether the batch has the same dtypes and, apart from the first axis, the same shapes as the parts."""
    return not parts or _describe_form(batch) == _describe_form(parts[0])


def _describe_form(batch: Batch) -> dict[str, tuple[Any, ...]]:
    return {name: (x.dtype, *x.shape[1:]) for name, x in get_named_tensors(batch)}
