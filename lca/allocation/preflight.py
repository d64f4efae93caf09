"""Before an allocation: is L a function of θ, is its gradient right, what will be recorded, and what will it cost?"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from lca.allocation.batch_size import out_of_memory
from lca.allocation.config import AllocateConfig
from lca.allocation.forecast import forecast_disk_bytes, forecast_memory_bytes, forecast_passes
from lca.allocation.full_gradient import FullGradient, is_out_of_memory
from lca.allocation.inspection import describe_randomness, find_autocast, list_modules, list_parameters
from lca.allocation.iteration import Evaluation
from lca.errors import Argument, LCAError, Step
from lca.model.evaluation_mode import has_batchnorm
from lca.store.run import Run
from lca.text import duration, facts, pluralize, size, table

# Two passes at the same θ may differ by the order of float32 sums on some devices, and by no more.
SAME_LOSS = 1e-6
SAME_GRADIENT = 1e-4

# The losses of examples in batches of another size, which are rounded differently.
SAME_LOSSES = 1e-4

# The slope along a direction, by central differences: 1 % for the kinks of ReLU, besides the error that the differences
# show of themselves.
SAME_SLOPE = 0.01

REDUCE_DISK = (Argument("keep_bits"), Argument("keep", "tensors"), Argument("iterations"))


@dataclass(frozen=True)
class Preflight:
    """What was found before an allocation, and its forecast; str() gives it as text.

    parameters: (name, shape, state). modules: (name, kind, mode) of those that have one of their own.
    slope, measured_slope: of L along a direction, from the gradient and from central differences.
    pass_s: wall seconds of a pass over the split; n_passes: those of a smooth run. disk_bytes: at most, and
    disk_free_bytes: what is free there, None if that is not known. memory_bytes: of the host, at most.
    notes: what else there is to know, such as why passes are slower than they might be. remedies: arguments that would
    make the allocation fit onto the disk, if it may not.
    """

    parameters: list[tuple[str, tuple[int, ...], str]]
    modules: list[tuple[str, str, str]]
    slope: float
    measured_slope: float
    pass_s: float
    n_passes: int
    disk_bytes: int
    disk_free_bytes: int | None
    memory_bytes: int
    notes: list[str]

    @property
    def forecast_s(self) -> float:
        """Wall seconds, if no iteration has to be refined."""
        return self.n_passes * self.pass_s

    @property
    def fits_on_disk(self) -> bool:
        """Whether the disk has room for the allocation, as far as is known."""
        return self.disk_free_bytes is None or self.disk_bytes <= self.disk_free_bytes

    @property
    def remedies(self) -> tuple[Step, ...]:
        return () if self.fits_on_disk else REDUCE_DISK

    def describe_forecast(self) -> str:
        """The cost in words."""
        free = "" if self.disk_free_bytes is None else f" ({size(self.disk_free_bytes)} free)"
        return (
            f"{pluralize(self.n_passes, 'pass')} of {self.pass_s:.3g} s: {duration(self.forecast_s)} if no iteration "
            f"has to be refined; up to {size(self.disk_bytes)} on disk{free}, {size(self.memory_bytes)} of memory"
        )

    def __str__(self) -> str:
        shapes = [[name, "×".join(map(str, shape)) or "1", state] for name, shape, state in self.parameters]
        slopes = f"{self.slope:.6g} by the gradient, {self.measured_slope:.6g} by central differences"
        findings = [
            ("loss", "a function of the parameters: two passes agree"),
            ("slope", slopes),
            ("forecast", self.describe_forecast()),
        ]
        parts = [
            table(["parameter", "shape", "state"], shapes),
            *([table(["module", "kind", "mode"], self.modules)] if self.modules else []),
            "\n".join([facts(findings), *(f"note: {note}" for note in self.notes)]),
        ]
        return "\n\n".join(parts)


def preflight(run: Run, gradient: FullGradient, theta: Tensor, config: AllocateConfig, iterations: range) -> Preflight:
    """Check the problem at theta (K,), an iterate of the run; LCAError if L is no function, or its gradient is wrong.

    gradient: entered, so that the model is in the mode of the passes. iterations: those that will be allocated.
    """
    first = _make_first_pass(gradient, theta)
    begin = time.perf_counter()
    second = gradient(theta)
    float(second.loss)  # waits for the device
    pass_s = time.perf_counter() - begin
    _require_function(gradient, first, second)
    in_full = first if gradient.precision == "fp32" else gradient.in_full(theta)
    slope, measured_slope = _compare_slopes(gradient, theta, in_full)
    checked = Preflight(
        parameters=list_parameters(gradient.model, gradient.compute_sample),
        modules=list_modules(gradient.model),
        slope=slope,
        measured_slope=measured_slope,
        pass_s=pass_s,
        n_passes=forecast_passes(config, iterations),
        disk_bytes=forecast_disk_bytes(run, config, iterations, len(gradient.objective.classes)),
        disk_free_bytes=run.path.free_bytes(),
        memory_bytes=forecast_memory_bytes(run, gradient),
        notes=gradient.notes,
    )
    checked.notes.extend(_find_oddities(gradient))
    if not checked.fits_on_disk:
        checked.notes.append("the disk may become full")
    return checked


def _make_first_pass(gradient: FullGradient, theta: Tensor) -> Evaluation:
    """A pass; LCAError if its batches are too large for the memory."""
    try:
        return gradient(theta)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(gradient.batch_size, gradient.device) from error


def _require_function(gradient: FullGradient, first: Evaluation, second: Evaluation) -> None:
    """Raise LCAError unless two passes at the same θ agree, and are finite."""
    loss, again = float(first.loss), float(second.loss)
    if not torch.isfinite(first.loss):
        raise LCAError(
            "the loss at the first iterate", expected="a finite number", found=str(loss), remedy="Check data and model."
        )
    norm = float(first.gradient.norm())
    difference = float((first.gradient - second.gradient).norm())
    if abs(loss - again) > SAME_LOSS * abs(loss) or difference > SAME_GRADIENT * norm:
        raise LCAError(
            f"the loss is not a function of the parameters: two passes at the same ones gave {loss:.9g} and "
            f"{again:.9g}, and gradients {difference / norm if norm else difference:.2g} apart",
            remedy=describe_randomness(gradient.model, gradient.compute_sample),
        )


def _find_oddities(gradient: FullGradient) -> list[str]:
    """Notes on properties of the loss that a user may not intend."""
    notes = []
    if autocast := find_autocast(gradient):
        notes.append(
            f"{autocast} computes in autocast, which the model or its losses turn on by themselves: the loss, and the "
            "float32 of the audit too, are those of 16 bits. A model that Hugging Face's Trainer has trained does so; "
            "allocate with a new one"
        )
    if not has_batchnorm(gradient.model) and (change := gradient.measure_batch_dependence()) > SAME_LOSSES:
        notes.append(
            f"an example's loss depends on the rest of its batch (by {100 * change:.2g} % with half as many in it): "
            f"L depends on the batches, of {gradient.batch_size:,} here; padding that the model sees, a "
            "normalisation over the batch, or a loss that mixes examples are the usual reasons"
        )
    return notes


def _compare_slopes(gradient: FullGradient, theta: Tensor, here: Evaluation) -> tuple[float, float]:
    """The slope of L at theta along a random direction that goes uphill, by the gradient and by central differences.

    here: the evaluation at theta, in float32 as the differences are.
    """
    at, loss = here.gradient, float(here.loss)
    size = float(at.norm())
    if size == 0:
        return 0.0, 0.0
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(len(theta), generator=generator).to(theta)
    direction = at / size + random / random.norm()
    slope = float(at.double() @ direction.double())
    step = 1e-2 * max(abs(loss), 1e-3) / size

    def difference(h: float) -> float:
        up, down = (float(gradient.in_full(theta + sign * h * direction).loss) for sign in (1, -1))
        return (up - down) / (2 * h)

    whole, half = difference(step), difference(step / 2)
    measured = (4 * half - whole) / 3  # Richardson: without the term in h²
    allowed = SAME_SLOPE * abs(slope) + 2 * abs(whole - half) + 1e-6 * abs(loss) / step
    if abs(measured - slope) > allowed:
        raise LCAError(
            f"the gradient is not that of the loss: along a direction its slope is {slope:.6g}, and central "
            f"differences give {measured:.6g} (± {allowed:.2g})",
            remedy="The usual reasons are a detached tensor, an operation whose backward is not its derivative, or a "
            "loss that changes the model.",
        )
    return slope, measured
