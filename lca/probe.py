"""How to lay out a pass for speed: examples at once and memory format, by a short trial on the data's device."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from lca.batch import Batch, length, mapped, tensors
from lca.device import memory
from lca.errors import LCAError
from lca.gradient import SAMPLE, FullGradient, has_batchnorm, is_out_of_memory
from lca.parameters import device_of
from lca.precision import in_precision
from lca.problem import Losses
from lca.stream import Stream, changed, count, head
from lca.workers import n_sharing

# What is worth trying, by kind of device.
BATCH_SIZES = defaultdict(
    lambda: (1_000, 5_000),
    cpu=(125, 250, 500, 1_000, 2_000, 5_000),
    cuda=(1_000, 5_000, 20_000, 100_000),
)
BATCHNORM_BATCH = 5_000  # the paper's
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
STREAMED_BYTES = 2**28  # of a batch that is streamed, at most
PAIRS = 3  # trials of two layouts in turn: a machine that is slower for a while is so for both
CLEARLY_WORSE = 1.1  # times the shortest
WORTH_IT = 0.95  # of the time in torch's own memory format, for another to be taken


@dataclass(frozen=True)
class Layout:
    """batch_size: examples at once. channels_last: whether images lie in memory with their channels last."""

    batch_size: int
    channels_last: bool

    def of(self, data: "Batch | Stream") -> "Batch | Stream":
        """The data in this memory format."""
        return changed(data, as_channels_last) if self.channels_last else data


def as_channels_last(data: Batch) -> Batch:
    return mapped(data, lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x)


def fastest_layout(
    model: nn.Module,
    losses: Losses,
    data: "Batch | Stream",
    scale: Callable[[Batch], Batch] | None = None,
    weigh: Callable[[Batch], Tensor] | None = None,
    *,
    batch_size: int | None = None,
    channels_last: bool | None = None,
) -> Layout:
    """What is not given, chosen for the shortest pass over the split.

    With BatchNorm the batch size is a part of what the loss is: the paper's 5,000 then, whatever is faster.
    """
    if batch_size is None and has_batchnorm(model):
        batch_size = BATCHNORM_BATCH
    seconds = _Stopwatch(model, losses, data, scale, weigh)
    if batch_size is None:
        batch_size = fastest_batch_size(seconds, min(count(data), _at_most(data)), device_of(model))
    if channels_last is None:
        size = min(batch_size, BATCH_SIZES["cpu"][1])  # enough to tell, also where batches are large
        channels_last = _has_images(model, head(data, 1)) and _ratio(seconds, (size, True), (size, False)) < WORTH_IT
    return Layout(batch_size, channels_last)


def fastest_batch_size(seconds: Callable[[int], float], N: int, device: torch.device) -> int:
    """The batch size with the shortest pass per example; what is too large for the memory is left out.

    seconds: batch size -> wall seconds an example.
    """
    sizes = sorted({min(size, N) for size in BATCH_SIZES[device.type]})
    best: int | None = None
    for size in sizes:
        try:
            ratio = _ratio(seconds, (size,), (best or size,))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        if ratio > CLEARLY_WORSE and best:
            break  # larger ones are slower still, and take longest to try
        if ratio < 1 or not best:
            best = size
    if not best:
        raise LCAError(
            f"a batch of {sizes[0]:,} examples does not fit into the memory of {device}. "
            "Give a smaller one with --batch-size, or another device."
        )
    return best


def _ratio(seconds: Callable[..., float], layout: tuple[Any, ...], other: tuple[Any, ...]) -> float:
    """How much longer the first takes than the second, tried in turn: the median."""
    if layout == other:
        seconds(*layout)
        return 1.0
    return median(seconds(*layout) / seconds(*other) for _ in range(PAIRS))


def require_memory(
    model: nn.Module,
    losses: Losses,
    data: "Batch | Stream",
    scale: Callable[[Batch], Batch] | None,
    weigh: Callable[[Batch], Tensor] | None,
    batch_size: int,
    precision: str = "fp32",
) -> None:
    """Raise if a batch is too large for the memory of the data's device, where no smaller one can take its place."""
    device, N = device_of(model), count(data)
    sample = FullGradient(model, losses, head(data, SAMPLE), SAMPLE, scale=scale, weigh=weigh)
    with sample, in_precision(precision, device):
        sample_bytes = activation_bytes(sample)
    size, there = min(batch_size, N), memory(device) // n_sharing(device)
    wanted = sample_bytes * size // sample.n_examples
    if wanted > there:
        raise LCAError(
            f"a batch of {size:,} examples leaves {wanted / 1e9:.3g} GB for the backward pass, and a process on "
            f"{device} has {there / 1e9:.3g} GB. With BatchNorm the batch is a part of what the loss is, so it is "
            "never made smaller unasked: give a smaller --batch-size, which the store records, or another device."
        )


def activation_bytes(gradient: FullGradient) -> int:
    """What the forward pass of a few examples keeps for the backward pass, besides parameters and the examples."""
    there = {tensor.untyped_storage().data_ptr() for tensor in (*gradient.model.parameters(), *tensors(gradient.data))}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        gradient.sample_losses()
    return sum(kept.values())


@dataclass(frozen=True)
class _Stopwatch:
    """seconds(size, channels_last) -> wall seconds an example, of a pass over one batch."""

    model: nn.Module
    losses: Losses
    data: "Batch | Stream"
    scale: Callable[[Batch], Batch] | None
    weigh: Callable[[Batch], Tensor] | None

    def __call__(self, size: int, channels_last: bool = False) -> float:
        sample = Layout(size, channels_last).of(head(self.data, size))
        if isinstance(self.data, Stream):  # its reading is not what is to be told
            sample = mapped(sample, lambda x: x.to(device_of(self.model)))
        with FullGradient(self.model, self.losses, sample, size, scale=self.scale, weigh=self.weigh) as gradient:
            _time(gradient)  # the first pass is slower than the one that counts
            return _time(gradient) / length(sample)


def _at_most(data: "Batch | Stream") -> int:
    """Examples in a batch, of a stream so many as can be held several times over."""
    if not isinstance(data, Stream):
        return count(data)
    sample = head(data, SAMPLE)
    return max(SAMPLE, STREAMED_BYTES * length(sample) // max(1, sum(x.nbytes for x in tensors(sample))))


def _time(gradient: FullGradient) -> float:
    """Wall seconds of a pass."""
    begin = time.perf_counter()
    float(gradient(gradient.theta).loss)  # waits for the device
    return time.perf_counter() - begin


def _has_images(model: nn.Module, data: Batch) -> bool:
    return any(isinstance(module, CONVOLUTIONS) for module in model.modules()) and any(
        x.ndim == 4 for x in tensors(data)
    )
