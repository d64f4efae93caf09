"""The worst iterations, integrated more finely until the cumulative residual is within its bound."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lca.allocation.config import AllocateConfig
from lca.allocation.task import Task
from lca.runtime.workers import Phase
from lca.store.chunks import round_mantissa
from lca.store.summary import is_counted

NEEDED = ("loss", "allocated", "residual", "intervals", "status")


def refine_total(task: Task) -> None:
    """Integrate the worst iteration more finely until the cumulative residual is within its bound.

    The leading process does it, and the others wait.
    """
    team = task.team
    if not team.leads:
        team.wait(Phase.REFINED)
        return
    arrays = {name: task.allocation.read(name) for name in NEEDED}
    n_refined = 0
    # What a kill has left half-written is computed again: its numbers may be of both.
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
        team.say(f"{n_refined} refined for the total")
        todo = _choose_refinement(task, arrays)
    team.workers.add(Phase.REFINED)


def find_worst_iteration(arrays: Mapping[str, NDArray[Any]], config: AllocateConfig, eps: float) -> int | None:
    """The iteration to refine next so that the cumulative residual gets within its bound; None if it is, or cannot.

    arrays: loss (T+1,), allocated, residual, intervals and status (T,). It is the one with the largest |residual|. An
    iteration at the limit, one that is not finite, and one whose residual is rounding cannot be improved; nor can the
    first order. eps: of the numbers of the iterates.
    """
    loss, status = arrays["loss"], arrays["status"]
    residual = np.where(is_counted(status), arrays["residual"], 0)
    change = np.sum(arrays["allocated"] - arrays["residual"], where=is_counted(status))
    if config.rule == "first-order" or not abs(residual.sum()) > config.total_tolerance * abs(change):
        return None
    rounding = 8 * eps * np.fmax(np.abs(loss[1:]), np.abs(loss[:-1]))
    can_improve = (2 * arrays["intervals"] <= config.max_intervals) & (np.abs(residual) > rounding)
    return int(np.argmax(np.where(can_improve, np.abs(residual), 0))) if can_improve.any() else None


def _choose_refinement(task: Task, arrays: Mapping[str, NDArray[Any]]) -> list[int] | None:
    """Which iteration to integrate with how many subintervals, if any."""
    t = find_worst_iteration(arrays, task.config, float(np.finfo(task.run.weights.dtype).eps))
    return None if t is None else [t, 2 * int(arrays["intervals"][t])]


def _integrate_again(task: Task, t: int, n: int) -> dict[str, NDArray[Any]]:
    """What is stored of iteration t, integrated with at least n subintervals."""
    step = task.steps.take(t)
    record = task.records.of_iteration(task.steps.integrate(step, n), step)
    values = {name: torch.as_tensor(value).cpu().numpy() for name, value in record.items()}
    if "lca" in values:
        values["lca"] = round_mantissa(values["lca"].astype(np.float32), task.config.keep_bits)
    return values
