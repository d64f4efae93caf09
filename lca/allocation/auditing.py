"""The audit: a sample of iterations is integrated again with two and four times as many subintervals.

With n subintervals in the stored allocation A_n, the audit compares A_n and A_2n with the reference A_4n, parameter by
parameter. Unlike the residual, which sums over the parameters, it detects errors that cancel in the sum.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from lca.allocation.full_gradient import without_classes
from lca.allocation.quadrature import Simpson, odd_nodes
from lca.allocation.task import Task
from lca.runtime.workers import Phase
from lca.store.audit import Audit, Sample, compare_parts, draw_iterations
from lca.store.schema import Status
from lca.store.summary import is_counted


def audit_sample(task: Task) -> None:
    """Audit a sample of the allocated iterations, distributed over all processes, and store the measured errors."""
    team = task.team
    estimate, intervals = task.allocation.read("part_estimate"), task.allocation.read("intervals")
    sample = _draw(task, estimate, intervals)
    if not sample.iterations:
        return
    iterations = sample.iterations
    with without_classes(task.gradient):
        for i in team.workers.take(Phase.AUDITED, len(iterations)):
            team.raise_if_stopped()
            team.show(f"audit {i + 1} of {len(iterations)}")
            t = iterations[i]
            team.workers.publish(f"audit/{i}", _audit_iteration(task, t, int(intervals[t])))
            team.workers.add(Phase.AUDITED)
    if team.leads:
        team.wait(Phase.AUDITED, len(iterations))
        team.show(f"{len(iterations)} audited")
        figures = [team.workers.read(f"audit/{i}") for i in range(len(iterations))]
        columns = {name: [row[name] for row in figures] for name in figures[0]}
        estimates = np.nan_to_num(estimate[iterations]).tolist()
        audit = Audit(iterations, **columns, estimate=estimates, stratum=sample.stratum, strata=sample.strata)
        task.writer.note("audit_result", audit.to_json())


def _draw(task: Task, estimate: NDArray[np.float64], intervals: NDArray[np.int16]) -> Sample:
    """Return the iterations to audit, or an empty sample if the audit is off or no iteration can be audited."""
    status, config = task.allocation.read("status"), task.config
    at = np.flatnonzero(is_counted(status))
    if not config.audit or not len(at):
        return Sample([], [], [])
    return draw_iterations(at, estimate[at], intervals[at], status[at] == Status.AT_LIMIT, config.audit, config.seed)


def _audit_iteration(task: Task, t: int, n: int) -> dict[str, float]:
    """Measure the errors of iteration t, which was allocated with n subintervals (see `compare_parts`)."""
    theta0, theta1 = task.theta(t), task.theta(t + 1)
    delta = theta1.double() - theta0

    def sum_at(nodes: list[float]) -> torch.Tensor:
        """Return the sum of the gradients at the nodes, in full precision regardless of `config.precision`."""
        total = torch.zeros_like(delta)
        for s in nodes:
            total += task.gradient.evaluate_full_precision(torch.lerp(theta0, theta1, s)).gradient
        return total

    if "lca" in task.allocation.arrays:
        stored = task.allocation.read_part("lca", (slice(None), t)).astype(np.float64)
    else:
        stored = task.steps.integrate(task.steps.take(t), n).allocation.cpu().numpy()
    rule = Simpson.start(sum_at([0.0, 1.0]), sum_at(odd_nodes(2)))
    references = {}
    while True:
        if rule.n >= 2 * n:
            references[rule.n] = rule.compute_integral().mul_(delta).cpu().numpy()
        if rule.n == 4 * n:
            return compare_parts(stored, references[2 * n], references[4 * n])
        rule = rule.halve(sum_at(odd_nodes(2 * rule.n)))
