"""The batch size and the memory format of the passes, chosen for speed by short trials on the model's device."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from lca.allocation.activations import measure_saved_bytes
from lca.allocation.full_gradient import SAMPLE, FullGradient, is_out_of_memory
from lca.errors import Argument, LCAError
from lca.model.parameters import get_device
from lca.problem.batches import Batch, get_tensors, length, map_tensors
from lca.problem.objective import Objective
from lca.problem.streaming import StreamedDataset, take_first
from lca.runtime.device import get_memory_bytes
from lca.runtime.precision import use_precision
from lca.runtime.workers import count_sharing

# Candidate batch sizes for each kind of device.
BATCH_SIZES = defaultdict(
    lambda: (1_000, 5_000),
    cpu=(125, 250, 500, 1_000, 2_000, 5_000),
    cuda=(1_000, 5_000, 20_000, 100_000),
)
MIXING_BATCH = 5_000  # default if the loss depends on the batch size, as in the paper
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
STREAMED_BYTES = 2**28  # upper limit on the size of a streamed batch
PAIRS = 3  # pairs of alternating trials of two formats, so that a temporary slowdown of the machine affects both
CLEARLY_WORSE = 1.1  # ratio to the best time above which the search stops
WORTH_IT = 0.95  # channels-last is used if its time is below this fraction of the time of the default format


@dataclass(frozen=True)
class BatchFormat:
    """The number of examples per batch, and whether images are stored in the channels-last memory format."""

    batch_size: int
    channels_last: bool = False

    def apply(self, objective: Objective) -> Objective:
        """Return the objective with its data in this memory format."""
        return objective.map_data(to_channels_last) if self.channels_last else objective


def to_channels_last(data: Batch) -> Batch:
    return map_tensors(data, lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x)


def choose_batch_format(
    objective: Objective, *, batch_size: int | None = None, channels_last: bool | None = None
) -> BatchFormat:
    """Choose the batch size and the memory format for which a pass is fastest, unless they are given.

    If the loss depends on the batch size, as with BatchNorm, the default is the paper's 5,000 instead of the fastest
    size.
    """
    data = objective.data
    if batch_size is None and objective.mixes_examples:
        batch_size = MIXING_BATCH
    seconds = _Stopwatch(objective)
    if batch_size is None:
        largest = min(objective.n_examples, _largest_batch(data))
        batch_size = choose_batch_size(seconds, largest, get_device(objective.model))
    if channels_last is None:
        size = min(batch_size, BATCH_SIZES["cpu"][1])  # large enough to show the difference
        has_images = _has_images(objective.model, take_first(data, 1))
        channels_last = has_images and _compare(seconds, (size, True), (size, False)) < WORTH_IT
    return BatchFormat(batch_size, channels_last)


def choose_batch_size(seconds: Callable[[int], float], N: int, device: torch.device) -> int:
    """Return the batch size with the shortest time per example of those tried.

    The sizes are tried in ascending order. The search ends at the first one that does not fit in memory or is clearly
    slower than the best so far. `seconds` measures the wall-clock time per example for a batch size, and `N` is the
    largest batch size to try.
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
            break  # larger batches would be slower still, and their trials take longest
        if ratio < 1 or not best:
            best = size
    if not best:
        raise out_of_memory(sizes[0], device)
    return best


def out_of_memory(size: int, device: torch.device) -> LCAError:
    """Return the error for a batch that does not fit in memory."""
    return LCAError(
        f"a batch of {size:,} examples does not fit in the memory of {device}",
        remedy=("Pass a smaller ", Argument("batch_size"), " or another ", Argument("device"), "."),
    )


def require_memory(objective: Objective, batch_size: int, precision: str = "fp32") -> None:
    """Raise LCAError if the activations of a batch of this size do not fit in the memory of the model's device."""
    device = get_device(objective.model)
    few = objective.take_first(SAMPLE)
    with FullGradient(few, SAMPLE) as sample, use_precision(precision, device):
        sample_bytes = measure_activations(sample)
    size, available = min(batch_size, objective.n_examples), get_memory_bytes(device) // count_sharing(device)
    needed = sample_bytes * size // few.n_examples
    if needed > available:
        raise LCAError(
            f"the activations of a batch of {size:,} examples need {needed / 1e9:.3g} GB, but a process on {device} "
            f"has {available / 1e9:.3g} GB. The batch size is not reduced automatically, because the loss depends on "
            "it",
            remedy=(
                "Pass a smaller ",
                Argument("batch_size"),
                " (the store records it) or another ",
                Argument("device"),
                ".",
            ),
        )


def measure_activations(gradient: FullGradient) -> int:
    """Return the bytes that a forward pass over SAMPLE examples keeps for the backward pass.

    Parameters and the examples themselves are not counted.
    """
    existing = (*gradient.model.parameters(), *get_tensors(gradient.objective.data))
    return measure_saved_bytes(gradient.compute_sample, existing)


@dataclass(frozen=True)
class _Stopwatch:
    """Measures the wall-clock time per example of a pass over one batch, given its size and memory format."""

    objective: Objective

    def __call__(self, size: int, channels_last: bool = False) -> float:
        sample = BatchFormat(size, channels_last).apply(self.objective.take_first(size))
        if isinstance(self.objective.data, StreamedDataset):  # reading the data must not be timed
            sample = sample.map_data(lambda batch: map_tensors(batch, lambda x: x.to(get_device(sample.model))))
        with FullGradient(sample, size) as gradient:
            _time_pass(gradient)  # warm-up
            return _time_pass(gradient) / sample.n_examples


def _compare(seconds: Callable[..., float], one: tuple[Any, ...], other: tuple[Any, ...]) -> float:
    """Return the ratio of the time of `one` to the time of `other`, as the median over alternating trials."""
    if one == other:
        seconds(*one)  # raises if the batch does not fit in memory
        return 1.0
    return median(seconds(*one) / seconds(*other) for _ in range(PAIRS))


def _largest_batch(data: Batch | StreamedDataset) -> int:
    """Return the largest batch size to try: all examples, or for a stream as many as fit in STREAMED_BYTES."""
    if not isinstance(data, StreamedDataset):
        return length(data)
    sample = take_first(data, SAMPLE)
    return max(SAMPLE, STREAMED_BYTES * length(sample) // max(1, sum(x.nbytes for x in get_tensors(sample))))


def _time_pass(gradient: FullGradient) -> float:
    """Return the wall-clock time of a pass, in seconds."""
    begin = time.perf_counter()
    float(gradient(gradient.theta).loss)  # waits for the device
    return time.perf_counter() - begin


def _has_images(model: nn.Module, data: Batch) -> bool:
    return any(isinstance(module, CONVOLUTIONS) for module in model.modules()) and any(
        x.ndim == 4 for x in get_tensors(data)
    )
