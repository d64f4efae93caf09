"""Before an allocation: is L a function of θ, is its gradient right, what will be recorded, and what will it cost?"""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lca.audit import n_audited
from lca.config import AllocateConfig
from lca.errors import LCAError
from lca.gradient import FullGradient, has_batchnorm, is_out_of_memory
from lca.integrate import Evaluation
from lca.parameters import named_parameters, trainable
from lca.precision import in_precision
from lca.replay import BLOCKS_HELD
from lca.store import Run

# Two passes at the same θ may differ by the order of float32 sums on some devices, and by no more.
SAME_LOSS = 1e-6
SAME_GRADIENT = 1e-4

# The losses of examples in batches of another size, which are rounded otherwise.
SAME_LOSSES = 1e-4

# The slope along a direction, by central differences: 1 % for the kinks of ReLU, besides what the differences tell of
# their own error.
SAME_SLOPE = 0.01


@dataclass(frozen=True)
class Preflight:
    """parameters: (name, shape, state), modules: (name, kind, mode) of those that have one of their own.

    slope, measured_slope: of L along a direction, from the gradient and from central differences.
    pass_s: wall seconds of a pass over the split; n_passes: those of a smooth run. disk_bytes: at most, and
    disk_free_bytes: what is free there, None if that is not known. memory_bytes: of the host, at the most.
    notes: what else there is to know, such as why passes are slower than they might be.
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


def preflight(run: Run, gradient: FullGradient, theta: Tensor, config: AllocateConfig, iterations: range) -> Preflight:
    """Check the problem at theta (K,), an iterate of the run; LCAError if L is no function, or its gradient is wrong.

    gradient: entered, so that the model is in the mode of the passes. iterations: those that will be allocated.
    """
    first = _first_pass(gradient, theta)
    begin = time.perf_counter()
    second = gradient(theta)
    loss, again = float(first.loss), float(second.loss)
    pass_s = time.perf_counter() - begin
    if not torch.isfinite(first.loss):
        raise LCAError(
            f"the loss at the first iterate is {loss}; a finite one was wanted. Look at the data and the model."
        )
    size = float(first.gradient.norm())
    apart = float((first.gradient - second.gradient).norm())
    if abs(loss - again) > SAME_LOSS * abs(loss) or apart > SAME_GRADIENT * size:
        raise LCAError(
            f"the loss is not a function of the parameters: two passes at the same ones gave {loss:.9g} and "
            f"{again:.9g}, and gradients {apart / size if size else apart:.2g} apart. "
            f"{random_module(gradient.model, gradient.sample_losses)}"
        )
    slope, measured_slope = _slopes(gradient, theta, first if gradient.precision == "fp32" else gradient.in_full(theta))
    T, K = len(iterations), run.parameters.size
    free = run.free_bytes()
    checked = Preflight(
        parameters=_parameters(gradient.model, gradient.sample_losses),
        modules=_modules(gradient.model),
        slope=slope,
        measured_slope=measured_slope,
        pass_s=pass_s,
        n_passes=_n_passes(config, iterations),
        disk_bytes=K * T * (4 * (config.keep == "lca") + config.gradient_signs / 8).__ceil__(),
        disk_free_bytes=free,
        memory_bytes=_memory_bytes(run, gradient),
        notes=gradient.notes,
    )
    if autocast := _module_in_autocast(gradient):
        checked.notes.append(
            f"{autocast} computes in autocast, which the model or its losses turn on by themselves: the loss, and the "
            "float32 of the audit too, are those of 16 bits. A model that Hugging Face's Trainer has trained does so; "
            "allocate with one newly made"
        )
    if not has_batchnorm(gradient.model) and (apart := gradient.by_companions()) > SAME_LOSSES:
        checked.notes.append(
            f"the loss of an example is another in other company (by {100 * apart:.2g} % with half as many beside it): "
            f"L depends on the batches, of {gradient.batch_size:,} here; padding that the model sees, a "
            "normalisation over the batch, or a loss that mixes examples are the usual reasons"
        )
    if free is not None and checked.disk_bytes > free:
        checked.notes.append("the disk may become full; see --keep-bits, --keep layers and --iterations")
    return checked


def _first_pass(gradient: FullGradient, theta: Tensor) -> Evaluation:
    """A pass; LCAError where its batches are too large for the memory."""
    try:
        return gradient(theta)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise LCAError(
            f"a batch of {gradient.batch_size:,} examples does not fit into the memory of {gradient.device}. "
            "Give a smaller one with --batch-size, or another device."
        ) from error


def _n_passes(config: AllocateConfig, iterations: range) -> int:
    """Those of a run that is not refined, its audit included."""
    n, T = (2 if config.rule == "simpson" else 1), len(iterations)
    starts = T if iterations.step > 1 else 1  # else it is where the iteration before has ended
    audited = n_audited(T, config.audit) if config.audit else 0
    return n * T + starts + audited * 6 * n  # both ends, and what is between them of 2n and of 4n subintervals


def _memory_bytes(run: Run, gradient: FullGradient) -> int:
    """The host's: what it has taken so far, in which passes were made, and what blocks of iterations will add."""
    so_far = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # Blocks of iterates, of which the first has been read, as many of results, and an integral's vectors in float64.
    n_blocks = 2 * BLOCKS_HELD[gradient.device.type] - 1
    return so_far + (run.weights.dtype.itemsize * n_blocks * run.block + 8 * 8) * run.parameters.size


def random_module(model: nn.Module, losses: Callable[[], Tensor]) -> str:
    """Which module gives another output for the same input, in words. losses: makes the model compute a few."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    runs = [_outputs(model, losses) for _ in range(2)]
    written = [name for name, buffer in model.named_buffers() if not torch.equal(buffer, before.get(name, buffer))]
    if written:
        return f"A pass changes the buffer {written[0]}; in eval mode a module has to leave its buffers as they are."
    for (name, kind, output), (_, _, again) in zip(*runs, strict=False):
        if not torch.equal(output, again):
            return f"The first module with another output each time is {name or 'the model itself'} ({kind})."
    return "No module is random by itself, so it is the loss function or the data, or sums in another order."


def _module_in_autocast(gradient: FullGradient) -> str | None:
    """The first module that computes in autocast although the pass is in float32."""
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if torch.is_autocast_enabled(gradient.device.type):
                found.append(name or "the model")

        return hook

    handles = [module.register_forward_pre_hook(look(name)) for name, module in gradient.model.named_modules()]
    try:
        with torch.no_grad(), in_precision("fp32", gradient.device):
            gradient.sample_losses()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _outputs(model: nn.Module, losses: Callable[[], Tensor]) -> list[tuple[str, str, Tensor]]:
    """(name, kind, output) of the modules that give a tensor, in the order in which they finish."""
    outputs: list[tuple[str, str, Tensor]] = []

    def keep(name: str, kind: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.append((name, kind, output.detach().clone()))

        return hook

    handles = [
        module.register_forward_hook(keep(name, type(module).__name__)) for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            losses()
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _slopes(gradient: FullGradient, theta: Tensor, here: Evaluation) -> tuple[float, float]:
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
            f"differences give {measured:.6g} (± {allowed:.2g}). A detached tensor, an operation whose backward is not "
            "its derivative, or a loss that changes the model are the usual reasons."
        )
    return slope, measured


def _parameters(model: nn.Module, losses: Callable[[], Tensor]) -> list[tuple[str, tuple[int, ...], str]]:
    recorded = trainable(model)
    gradients = torch.autograd.grad(losses().sum(), list(recorded.values()), allow_unused=True)
    untouched = {name for name, part in zip(recorded, gradients, strict=True) if part is None}
    own_name = {id(tensor): name for name, tensor in named_parameters(model).items()}
    rows, seen = [], set()
    for name, tensor in model.named_parameters(remove_duplicate=False):
        own = own_name[id(tensor)]
        if own in seen:
            rows.append((name, tuple(tensor.shape), f"tied to {own}"))
            continue
        seen.add(own)
        state = "frozen" if own not in recorded else "never touched by the loss" if own in untouched else "recorded"
        rows.append((own, tuple(tensor.shape), state))
    return rows


def _modules(model: nn.Module) -> list[tuple[str, str, str]]:
    """The modules whose behaviour depends on a mode, and the one that is used."""
    rows = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            rows.append((name, kind, "statistics of the batch, buffers untouched"))
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            rows.append((name, kind, "off"))
        elif isinstance(module, nn.RNNBase):
            rows.append((name, kind, "training mode, dropout off"))
    return rows
