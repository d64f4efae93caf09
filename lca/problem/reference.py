"""The reference loss: the loss of a few training examples, which a run stores for its first and last iterate.

It differs if the model or its loss has changed since the recording. It also differs if training changed a buffer that
the loss depends on, because a run stores only the parameters.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from lca.errors import Argument, LCAError
from lca.model.evaluation_mode import evaluation_mode, keep_buffers, widen_tensors
from lca.model.parameters import build_table, flatten, get_device, get_trainable
from lca.model.vectors import assign
from lca.problem.batches import map_tensors, scale_batch
from lca.problem.losses import compute_losses, compute_weights, explain_casts, sum_parts
from lca.problem.problem import Problem
from lca.problem.provenance import ChangedBuffers, list_buffers
from lca.problem.streaming import take_first
from lca.runtime.precision import use_precision
from lca.runtime.random_state import keep_random_state
from lca.store.run import Run

N_EXAMPLES = 16  # few, so that they fit into memory for any model
SAME_LOSS = 1e-3  # relative difference allowed, because devices round differently
ROUNDING = 1e-5  # allowed in addition, as a fraction of the larger reference loss of the run


def compute_reference_loss(problem: Problem) -> float | None:
    """Return the mean loss of the first training examples at the current parameters, or None if it is not finite.

    The model is evaluated as in an allocation: in float32 (or float64 if the model is in float64), without dropout, and
    with batch statistics in BatchNorm. The model and torch's random state are left as they were.
    """
    losses, weights = _compute_sample(problem, "train", N_EXAMPLES)
    loss = float(losses.sum() / weights)
    return loss if isfinite(loss) else None


def measure_batch_dependence(problem: Problem, split: str) -> float:
    """Return the relative change in the losses of a few examples when the size of their batch is halved."""
    together, _ = _compute_sample(problem, split, N_EXAMPLES)
    half = len(together) // 2
    if not half:
        return 0.0
    alone, _ = _compute_sample(problem, split, half)
    scale = together[:half].abs().sum().clamp_min(torch.finfo(torch.float32).tiny)
    return float((alone - together[:half]).abs().sum() / scale)


@dataclass(frozen=True)
class ReferenceLosses:
    """The reference losses of a problem at the first and last iterates of a run. A loss is None if it is not finite."""

    start: float | None
    end: float | None

    @classmethod
    def compute(cls, run: Run, problem: Problem) -> "ReferenceLosses":
        """Compute the reference losses at θ_0 and θ_T of the run."""
        losses = []
        for t in (0, run.n_iterations):
            with at_iterate(run, t, problem):
                losses.append(compute_reference_loss(problem))
        return cls(*losses)

    def compare(self, recorded: Mapping[str, float | None], T: int) -> dict[int, str]:
        """Return a description of each difference from the recorded losses, by iterate (0 or T).

        Losses that were not recorded are skipped.
        """
        rounding = ROUNDING * max((abs(loss) for loss in recorded.values() if loss), default=0.0)
        differences = {}
        for t, end in ((0, "start"), (T, "end")):
            expected, found = recorded.get(end), getattr(self, end)
            if expected is None or (found and abs(found - expected) <= SAME_LOSS * abs(expected) + rounding):
                continue
            now = "not finite" if found is None else f"{found:.6g}"
            differences[t] = (
                f"at iterate {t:,}, the loss of the first training examples was {expected:.6g} in training "
                f"and is now {now}"
            )
        return differences


def require_same_loss(run: Run, problem: Problem, losses: ReferenceLosses, other_loss: bool = False) -> list[str]:
    """Raise LCAError unless the reference losses are those recorded with the run. Return remarks on what differs.

    `other_loss` allows differences. Runs that were recorded without a problem have no reference losses.
    """
    recorded = run.attributes.get("reference", {})
    buffers, differences = ChangedBuffers.find(run, problem.model), losses.compare(recorded, run.n_iterations)
    explained = buffers.are_final and set(differences) <= {0}
    if differences and not (explained or other_loss):
        raise _refuse(run, differences, buffers)
    remarks = buffers.describe_since()
    if buffers.during and (differences or not recorded):
        remarks.append(buffers.describe_during())
    if differences:
        remarks.append(f"the allocated loss is not that of the training: {differences[max(differences)]}.")
    return remarks


def _refuse(run: Run, differences: dict[int, str], buffers: ChangedBuffers) -> LCAError:
    t = max(differences)
    other = ("To allocate this loss nevertheless, pass ", Argument("other_loss", True), ".")
    if t and buffers.during:
        return LCAError(
            f"the loss depends on {list_buffers(buffers.during)}, which training changed, but {run.path} stores only "
            f"the parameters: {differences[t]}",
            remedy=(
                "Pass the model with its buffers as training left them. L is then the loss with these buffers. ",
                *other,
            ),
        )
    return LCAError(
        f"the loss is not the one that {run.path} was recorded with: {differences[t]}",
        remedy=("Pass the model, losses and data that were used for training. ", *other),
    )


@contextmanager
def at_iterate(run: Run, t: int, problem: Problem) -> Iterator[None]:
    """Set the trainable parameters of the problem's model to the iterate θ_t of the run in this context."""
    model = problem.model
    tensors, table, before = list(get_trainable(model).values()), build_table(model), flatten(model)
    assign(tensors, torch.from_numpy(run.iterate(t)), table)
    try:
        yield
    finally:
        assign(tensors, before, table)


def _compute_sample(problem: Problem, split: str, n: int) -> tuple[Tensor, Tensor]:
    """Return the weighted losses of the first n examples of a split (n,) in float64, and the sum of their weights."""
    model, device = problem.model, get_device(problem.model)
    batch = map_tensors(take_first(problem.split(split), n), lambda x: x.to(device))
    with (
        torch.no_grad(),
        keep_random_state(device),
        evaluation_mode(model),
        keep_buffers(model),
        widen_tensors(model) as wide,
        use_precision("fp32", device),
        explain_casts(wide),
    ):
        batch = scale_batch(problem.scale, batch, wide)
        weights = compute_weights(problem.weigh, batch)
        losses = sum_parts(compute_losses(problem.losses, model, batch, weights)).cpu().double()
    return losses, torch.tensor(len(losses)) if weights is None else weights.cpu().sum(dtype=torch.float64)
