"""Refinement of the iterations with the largest residuals, until the cumulative residual is within its bound."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lca.allocation.config import AllocateConfig
from lca.allocation.task import Task
from lca.runtime.workers import Phase
from lca.store.chunks import round_mantissa
from lca.store.summary import bound_rounding, combine_rounding, is_counted

NEEDED = ("loss", "allocated", "residual", "intervals", "status")


def refine_total(task: Task) -> None:
    """Double the subintervals of the worst iteration until the cumulative residual is within its bound.

    Refinement also ends when no iteration can be refined further (see `find_worst_iteration`). The leading process does
    the work while the others wait.
    """
    team = task.team
    if not team.leads:
        team.wait(Phase.REFINED)
        return
    arrays = {name: task.allocation.read(name) for name in NEEDED}
    n_refined = 0
    # An iteration that was being written when the process was killed may be inconsistent, so it is computed again.
    todo = task.allocation.attributes.get("refining") or _choose_refinement(task, arrays)
    while todo:
        team.raise_if_stopped()
        t, n = todo
        task.writer.note("refining", todo)
        values = _integrate_again(task, t, n)
        task.writer.write_iteration(t, values)
        task.writer.note("refining", None)
        for name in arrays.keys() & values.keys():
            arrays[name][t] = values[name]
        n_refined += 1
        team.show(f"{n_refined} refined for the cumulative residual")
        todo = _choose_refinement(task, arrays)
    team.workers.add(Phase.REFINED)


def find_worst_iteration(arrays: Mapping[str, NDArray[Any]], config: AllocateConfig, dtype: str) -> int | None:
    """Return the iteration with the largest |residual|, or None if nothing has to be or can be refined.

    Nothing has to be refined if |Σ_t residual_t| ≤ total_tolerance · |Σ_t (L(θ_t+1) − L(θ_t))|, or if it is of the size
    of rounding errors. An iteration cannot be refined if it is not finite, if doubling its subintervals exceeds
    max_intervals, or if its residual is of the size of rounding errors (see `bound_rounding`). The first-order rule is
    never refined.

    `arrays` holds loss (T+1,) and allocated, residual, intervals and status, (T,) each. `dtype` is that of the
    iterates.
    """
    loss, status = arrays["loss"], arrays["status"]
    residual = np.where(is_counted(status), arrays["residual"], 0)
    change = np.sum(arrays["allocated"] - arrays["residual"], where=is_counted(status))
    rounding = bound_rounding(loss, dtype)
    bound = max(config.total_tolerance * abs(change), combine_rounding(rounding[is_counted(status)]))
    if config.rule == "first-order" or not abs(residual.sum()) > bound:
        return None
    can_improve = (2 * arrays["intervals"] <= config.max_intervals) & (np.abs(residual) > rounding)
    return int(np.argmax(np.where(can_improve, np.abs(residual), 0))) if can_improve.any() else None


def _choose_refinement(task: Task, arrays: Mapping[str, NDArray[Any]]) -> list[int] | None:
    """Return [iteration, new number of subintervals] for the next refinement, or None if there is none."""
    t = find_worst_iteration(arrays, task.config, task.run.weights.dtype.name)
    return None if t is None else [t, 2 * int(arrays["intervals"][t])]


def _integrate_again(task: Task, t: int, n: int) -> dict[str, NDArray[Any]]:
    """Integrate iteration t with at least n subintervals and return the values to store."""
    step = task.steps.take(t)
    record = task.records.collect_iteration(task.steps.integrate(step, n), step)
    values = {name: torch.as_tensor(value).cpu().numpy() for name, value in record.items()}
    if "lca" in values:
        values["lca"] = round_mantissa(values["lca"].astype(np.float32), task.config.keep_bits)
    return values
