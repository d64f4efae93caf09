"""Batch size and memory format of the passes, chosen for speed by a short trial on the data's device."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from lca.allocation.full_gradient import SAMPLE, FullGradient, is_out_of_memory
from lca.errors import Argument, LCAError
from lca.model.evaluation_mode import has_batchnorm
from lca.model.parameters import get_device
from lca.problem.batches import Batch, get_tensors, length, map_tensors
from lca.problem.objective import Objective
from lca.problem.streaming import StreamedDataset, take_first
from lca.runtime.device import get_memory_bytes
from lca.runtime.precision import use_precision
from lca.runtime.workers import count_sharing

# The sizes worth trying, by kind of device.
BATCH_SIZES = defaultdict(
    lambda: (1_000, 5_000),
    cpu=(125, 250, 500, 1_000, 2_000, 5_000),
    cuda=(1_000, 5_000, 20_000, 100_000),
)
BATCHNORM_BATCH = 5_000  # the paper's
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
STREAMED_BYTES = 2**28  # of a batch that is streamed, at most
PAIRS = 3  # trials of two formats in turn: a machine that is slower for a while is so for both
CLEARLY_WORSE = 1.1  # times the shortest
WORTH_IT = 0.95  # of the time in torch's own memory format, for another to be taken


@dataclass(frozen=True)
class BatchFormat:
    """batch_size: examples per batch. channels_last: whether images lie in memory with their channels last."""

    batch_size: int
    channels_last: bool = False

    def apply(self, objective: Objective) -> Objective:
        """The objective with its data in this memory format."""
        return objective.map_data(to_channels_last) if self.channels_last else objective


def to_channels_last(data: Batch) -> Batch:
    return map_tensors(data, lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x)


def choose_batch_format(
    objective: Objective, *, batch_size: int | None = None, channels_last: bool | None = None
) -> BatchFormat:
    """Choose what is not given for the shortest pass over the objective.

    With BatchNorm the batch size is a part of what the loss is, so it is the paper's 5,000, whatever is faster.
    """
    data = objective.data
    if batch_size is None and has_batchnorm(objective.model):
        batch_size = BATCHNORM_BATCH
    seconds = _Stopwatch(objective)
    if batch_size is None:
        largest = min(objective.n_examples, _largest_batch(data))
        batch_size = choose_batch_size(seconds, largest, get_device(objective.model))
    if channels_last is None:
        size = min(batch_size, BATCH_SIZES["cpu"][1])  # enough to see it, also where batches are large
        has_images = _has_images(objective.model, take_first(data, 1))
        channels_last = has_images and _compare(seconds, (size, True), (size, False)) < WORTH_IT
    return BatchFormat(batch_size, channels_last)


def choose_batch_size(seconds: Callable[[int], float], N: int, device: torch.device) -> int:
    """The batch size with the shortest pass per example; what is too large for the memory is left out.

    seconds: batch size -> wall seconds per example.
    """
    sizes = sorted({min(size, N) for size in BATCH_SIZES[device.type]})
    best: int | None = None
    for size in sizes:
        try:
            ratio = _compare(seconds, (size,), (best or size,))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        if ratio > CLEARLY_WORSE and best:
            break  # larger ones are slower still, and take longest to try
        if ratio < 1 or not best:
            best = size
    if not best:
        raise out_of_memory(sizes[0], device)
    return best


def out_of_memory(size: int, device: torch.device) -> LCAError:
    """The error of a batch that is too large."""
    return LCAError(
        f"a batch of {size:,} examples does not fit into the memory of {device}",
        remedy=("Pass a smaller ", Argument("batch_size"), ", or another ", Argument("device"), "."),
    )


def require_memory(objective: Objective, batch_size: int, precision: str = "fp32") -> None:
    """Raise LCAError if a batch is too large for the memory of the data's device, where none smaller can replace it."""
    device = get_device(objective.model)
    few = objective.take_first(SAMPLE)
    with FullGradient(few, SAMPLE) as sample, use_precision(precision, device):
        sample_bytes = measure_activations(sample)
    size, available = min(batch_size, objective.n_examples), get_memory_bytes(device) // count_sharing(device)
    needed = sample_bytes * size // few.n_examples
    if needed > available:
        raise LCAError(
            f"the activations of a batch of {size:,} examples take {needed / 1e9:.3g} GB, and a process on {device} "
            f"has {available / 1e9:.3g} GB. With BatchNorm the batch is a part of what the loss is, so it is never "
            "made smaller without being asked",
            remedy=(
                "Pass a smaller ",
                Argument("batch_size"),
                ", which the store records, or another ",
                Argument("device"),
                ".",
            ),
        )


def measure_activations(gradient: FullGradient) -> int:
    """Bytes that the forward pass of a few examples keeps for the backward pass, besides parameters and examples."""
    data = gradient.objective.data
    existing = {tensor.untyped_storage().data_ptr() for tensor in (*gradient.model.parameters(), *get_tensors(data))}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in existing:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        gradient.compute_sample()
    return sum(kept.values())


@dataclass(frozen=True)
class _Stopwatch:
    """seconds(size, channels_last) -> wall seconds per example, of a pass over one batch."""

    objective: Objective

    def __call__(self, size: int, channels_last: bool = False) -> float:
        sample = BatchFormat(size, channels_last).apply(self.objective.take_first(size))
        if isinstance(self.objective.data, StreamedDataset):  # its reading is not to be measured
            sample = sample.map_data(lambda batch: map_tensors(batch, lambda x: x.to(get_device(sample.model))))
        with FullGradient(sample, size) as gradient:
            _time_pass(gradient)  # the first pass is slower than the one that counts
            return _time_pass(gradient) / sample.n_examples


def _compare(seconds: Callable[..., float], one: tuple[Any, ...], other: tuple[Any, ...]) -> float:
    """How much longer the first takes than the second, tried in turn: the median."""
    if one == other:
        seconds(*one)
        return 1.0
    return median(seconds(*one) / seconds(*other) for _ in range(PAIRS))


def _largest_batch(data: Batch | StreamedDataset) -> int:
    """Largest batch size to try; of a streamed dataset, as many examples as fit into STREAMED_BYTES."""
    if not isinstance(data, StreamedDataset):
        return length(data)
    sample = take_first(data, SAMPLE)
    return max(SAMPLE, STREAMED_BYTES * length(sample) // max(1, sum(x.nbytes for x in get_tensors(sample))))


def _time_pass(gradient: FullGradient) -> float:
    """Wall seconds of a pass."""
    begin = time.perf_counter()
    float(gradient(gradient.theta).loss)  # waits for the device
    return time.perf_counter() - begin


def _has_images(model: nn.Module, data: Batch) -> bool:
    return any(isinstance(module, CONVOLUTIONS) for module in model.modules()) and any(
        x.ndim == 4 for x in get_tensors(data)
    )
