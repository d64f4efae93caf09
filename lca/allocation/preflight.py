"""The preflight: checks of the loss and its gradient before an allocation, and a forecast of its cost.

It verifies that L is a deterministic function of θ and that its gradient is the derivative of L.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

import numpy as np
import torch
from torch import Tensor

from lca.allocation.batch_size import out_of_memory
from lca.allocation.config import AllocateConfig
from lca.allocation.forecast import (
    UNREFINED,
    forecast_audit_passes,
    forecast_disk_bytes,
    forecast_memory_bytes,
    forecast_passes,
)
from lca.allocation.full_gradient import FullGradient, is_out_of_memory
from lca.allocation.inspection import describe_randomness, find_autocast, list_modules, list_parameters
from lca.allocation.iteration import Evaluation
from lca.errors import Argument, LCAError, Step
from lca.model.evaluation_mode import has_batchnorm
from lca.store.run import Run
from lca.text import duration, facts, pluralize, size, table

# Relative differences allowed between two passes at the same θ. On some devices the order of a float32 sum, and with
# it the rounding, varies from pass to pass.
SAME_LOSS = 1e-6
SAME_GRADIENT = 1e-4

# Relative difference allowed between the slopes from the gradient and from central differences, because of the kinks of
# ReLU. The error of the differences, estimated by halving the step, is allowed in addition.
SAME_SLOPE = 0.01

EXPENSIVE_AUDIT = 0.4  # fraction of the passes above which the cost of the audit is mentioned
REDUCE_DISK = (Argument("keep_bits"), Argument("keep", "tensors"), Argument("iterations"))


@dataclass(frozen=True)
class Preflight:
    """Findings about a model and its loss before an allocation, and a forecast of the cost. ``str()`` formats them.

    Attributes:
        parameters: Name, shape and state (recorded, frozen, tied or unused) of every parameter.
        modules: Name, class and mode of every BatchNorm, dropout and recurrent module.
        loss: Loss at the first iterate to be allocated.
        slope: Slope of the loss along a test direction, computed from the gradient. The direction is the sum of the
            unit gradient and a random unit vector.
        measured_slope: The same slope, computed by central differences of the loss.
        pass_s: Wall-clock time of one pass over the split, in seconds.
        n_passes: Forecast number of passes, including those of the audit.
        audit_passes: Forecast number of passes of the audit.
        sampled: Number of subintervals of each iteration that was integrated for the forecast. If it is empty, the
            forecast assumes that no iteration has to be refined.
        disk_bytes: Upper bound on the disk space of the allocation.
        disk_free_bytes: Free disk space at the store, or None if unknown.
        memory_bytes: Forecast of the host memory that the process will use.
        notes: Findings that may need attention, such as the reason for slow passes.
        remarks: Notes on what the numbers of the allocation depend on. They become part of the certificate.
        run_bytes: Size of the iterates before compression if the run does not exist yet, and otherwise 0.
    """

    parameters: list[tuple[str, tuple[int, ...], str]]
    modules: list[tuple[str, str, str]]
    loss: float
    slope: float
    measured_slope: float
    pass_s: float
    n_passes: int
    audit_passes: int
    sampled: dict[int, int]
    disk_bytes: int
    disk_free_bytes: int | None
    memory_bytes: int
    notes: list[str]
    remarks: list[str]
    run_bytes: int = 0

    @property
    def forecast_s(self) -> float:
        """Forecast wall-clock time of the allocation in seconds."""
        return self.n_passes * self.pass_s

    @property
    def fits_on_disk(self) -> bool:
        """Whether the allocation, with any run yet to be recorded, fits into the free disk space. True if unknown."""
        return self.disk_free_bytes is None or self.run_bytes + self.disk_bytes <= self.disk_free_bytes

    @property
    def remedies(self) -> tuple[Step, ...]:
        """Arguments of `lca.allocate` that reduce the disk space. Empty if `fits_on_disk`."""
        return () if self.fits_on_disk else REDUCE_DISK

    def describe_forecast(self) -> str:
        """Return the forecast of time, disk space and memory as text."""
        free = "" if self.disk_free_bytes is None else f" ({size(self.disk_free_bytes)} free)"
        basis = "if no iteration is refined"
        if self.sampled:
            listed = ", ".join(f"{n} in iteration {t:,}" for t, n in self.sampled.items())
            basis = f"judging from the gradients that some iterations needed ({listed})"
        disk = size(self.disk_bytes)
        if self.run_bytes:
            disk = f"{size(self.run_bytes)} for the run and {disk} for the allocation"
        return (
            f"{pluralize(self.n_passes, 'pass')} of {self.pass_s:.3g} s, {duration(self.forecast_s)} in total, {basis}."
            f" Up to {disk} on disk{free}, {size(self.memory_bytes)} of memory."
        )

    def __str__(self) -> str:
        shapes = [[name, "×".join(map(str, shape)) or "1", state] for name, shape, state in self.parameters]
        slopes = f"slope along a test direction {self.slope:.6g}, by central differences {self.measured_slope:.6g}"
        findings = [
            ("loss", "two passes at the same parameters agree"),
            ("gradient", slopes),
            ("forecast", self.describe_forecast()),
        ]
        parts = [
            table(["parameter", "shape", "state"], shapes),
            *([table(["module", "kind", "mode"], self.modules)] if self.modules else []),
            "\n".join([facts(findings), *(f"note: {note}" for note in self.notes)]),
        ]
        return "\n\n".join(parts)


def preflight(
    run: Run,
    gradient: FullGradient,
    theta: Tensor,
    config: AllocateConfig,
    iterations: range,
    remarks: Sequence[str] = (),
    sample: Callable[[], dict[int, int]] | None = None,
) -> Preflight:
    """Check the loss and its gradient at `theta` (K,), and forecast the cost of allocating `iterations`.

    `gradient` is a context manager that must have been entered, so that the model is in the mode of the passes.
    `remarks` are added to those of the result. `sample` integrates some of the iterations for the forecast and returns
    their numbers of subintervals. Raises LCAError if L is not a deterministic function of θ or its gradient is wrong.
    """
    first = _make_first_pass(gradient, theta)
    begin = time.perf_counter()
    second = gradient(theta)
    float(second.loss)  # waits for the device
    pass_s = time.perf_counter() - begin
    _require_function(gradient, first, second)
    in_full = first if gradient.precision == "fp32" else gradient.evaluate_full_precision(theta)
    slope, measured_slope = _compare_slopes(gradient, theta, in_full)
    sampled = sample() if sample else {}
    # `sample` does not predict where the adaptive rule needs Simpson's rule, so the mean is at least UNREFINED.
    intervals = max(UNREFINED[config.rule], float(np.mean(list(sampled.values() or [0]))))
    checked = Preflight(
        parameters=list_parameters(gradient.model, gradient.compute_sample),
        modules=list_modules(gradient.model),
        loss=float(in_full.loss),
        slope=slope,
        measured_slope=measured_slope,
        pass_s=pass_s,
        n_passes=forecast_passes(config, iterations, intervals),
        audit_passes=ceil(forecast_audit_passes(config, iterations, intervals)),
        sampled=sampled,
        disk_bytes=forecast_disk_bytes(run, config, iterations, len(gradient.objective.classes)),
        disk_free_bytes=run.path.free_bytes(),
        memory_bytes=forecast_memory_bytes(run, gradient),
        notes=gradient.notes,
        remarks=[*remarks, *_describe_recording(run), *_find_caveats(gradient)],
    )
    checked.notes.extend([*checked.remarks, *_find_costs(checked, config)])
    if not checked.fits_on_disk:
        checked.notes.append("the allocation may not fit on the disk")
    return checked


def _make_first_pass(gradient: FullGradient, theta: Tensor) -> Evaluation:
    """Make a pass. Raise LCAError if a batch does not fit in memory."""
    try:
        return gradient(theta)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(gradient.batch_size, gradient.device) from error


def _require_function(gradient: FullGradient, first: Evaluation, second: Evaluation) -> None:
    """Raise LCAError unless the loss is finite and two passes at the same θ agree."""
    loss, again = float(first.loss), float(second.loss)
    if not torch.isfinite(first.loss):
        raise LCAError(
            "the loss at the first iterate",
            expected="a finite number",
            found=str(loss),
            remedy="Check the data and the model for values that are not finite.",
        )
    norm = float(first.gradient.norm())
    if not isfinite(norm):
        raise _make_gradient_error(gradient, first.gradient)
    difference = float((first.gradient - second.gradient).norm())
    if abs(loss - again) > SAME_LOSS * abs(loss) or difference > SAME_GRADIENT * norm:
        raise LCAError(
            f"the loss is not a function of the parameters: two passes at the same parameters gave the losses "
            f"{loss:.9g} and {again:.9g}, and gradients that differ by {difference / norm if norm else difference:.2g}",
            remedy=describe_randomness(gradient.model, gradient.compute_sample),
        )


def _make_gradient_error(gradient: FullGradient, values: Tensor) -> LCAError:
    """Return the error for a gradient (K,) that is not finite although the loss is."""
    counts = {p.name: int((~torch.isfinite(values[p.span])).sum()) for p in gradient.table}
    where = [name for name, n in counts.items() if n]
    n = sum(counts.values())
    return LCAError(
        "the gradient at the first iterate",
        expected="finite numbers, like the loss",
        found=f"{n:,} of {len(values):,} entries NaN or infinite (first in {where[0]})" if n else "an infinite norm",
        remedy="A common cause is torch.where(mask, f(x), 0) where f(x) is not finite: the gradient of f is then NaN "
        "even where its value is masked. Mask x before f is applied.",
    )


def _find_caveats(gradient: FullGradient) -> list[str]:
    """Return notes on properties of the loss that may be unintended."""
    notes = []
    if autocast := find_autocast(gradient):
        notes.append(
            f"{autocast} runs under autocast, which the model or its loss enables. The loss is therefore computed in "
            "16 bits, even in the audit. Models trained by Hugging Face's Trainer do this: create a new model for the "
            "allocation."
        )
    if gradient.objective.mixes_examples and not has_batchnorm(gradient.model):
        change = 100 * gradient.objective.batch_dependence
        notes.append(
            f"an example's loss depends on the rest of its batch (halving the batch changes it by {change:.2g} %), "
            f"so L depends on the batch size, here {gradient.batch_size:,}. Common causes are padding that the model "
            "sees, a normalization over the batch, and a loss that mixes examples."
        )
    return notes


def _describe_recording(run: Run) -> list[str]:
    """Return remarks on a run whose path or loss is not exactly that of the training."""
    remarks = []
    if files := run.attributes.get("imported", []):
        lines = "one straight line" if len(files) == 2 else f"{len(files) - 1:,} straight lines"
        remarks.append(
            f"the path consists of {lines} between {len(files):,} checkpoints. The path that was taken is unknown."
        )
    if frozen := run.attributes.get("batchnorm_in_eval_mode"):
        remarks.append(
            f"training used the running statistics of {pluralize(len(frozen), 'BatchNorm module')} in eval mode "
            f"(first: {frozen[0]}). The allocated loss uses batch statistics instead."
        )
    return remarks


def _find_costs(checked: Preflight, config: AllocateConfig) -> list[str]:
    """Return notes on what makes the allocation expensive."""
    notes = []
    refined = [n for n in checked.sampled.values() if n > ceil(UNREFINED[config.rule])]
    if 2 * len(refined) > len(checked.sampled):
        notes.append(
            f"most of the sampled iterations had to be refined, with up to {max(refined)} gradients each. A larger "
            "residual tolerance would require fewer."
        )
    if checked.audit_passes > EXPENSIVE_AUDIT * checked.n_passes:
        notes.append(
            f"the audit takes {checked.audit_passes:,} of the {checked.n_passes:,} passes. For a first look, skip it "
            "with an audit fraction of 0."
        )
    return notes


def _compare_slopes(gradient: FullGradient, theta: Tensor, here: Evaluation) -> tuple[float, float]:
    """Return the slope of L along a direction d, from the gradient and from central differences.

    d is the sum of the unit gradient and a random unit vector. The first slope is d · ∇L(θ). The second is
    (L(θ + hd) − L(θ − hd)) / 2h, Richardson-extrapolated from the steps h and h/2. `here` is the evaluation at θ in
    full precision. Raises LCAError if the two disagree.
    """
    evaluate, at, loss = gradient.evaluate_full_precision, here.gradient, float(here.loss)
    size = float(at.norm())
    if size == 0:
        return 0.0, 0.0
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(len(theta), generator=generator).to(theta)
    direction = at / size + random / random.norm()
    slope = float(at.double() @ direction.double())
    step = max(1e-2 * abs(loss) / size, 1e-6 * float(theta.norm()))  # about 1 % of L, but at least 1e-6 of θ

    def difference(h: float) -> float:
        up, down = (float(evaluate(theta + sign * h * direction).loss) for sign in (1, -1))
        return (up - down) / (2 * h)

    whole, half = difference(step), difference(step / 2)
    measured = (4 * half - whole) / 3  # Richardson extrapolation removes the error in h²
    allowed = SAME_SLOPE * abs(slope) + 2 * abs(whole - half) + 1e-6 * abs(loss) / step
    if abs(measured - slope) > allowed:
        raise LCAError(
            f"the gradient is not the derivative of the loss: along a test direction it gives the slope {slope:.6g}, "
            f"but central differences give {measured:.6g} (± {allowed:.2g})",
            remedy="Common causes are a detached tensor, an operation with a wrong backward pass, and a loss that "
            "changes the model.",
        )
    return slope, measured
