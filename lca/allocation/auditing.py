"""The audit: a sample of iterations is integrated again with two and four times as many subintervals.

With n subintervals in the stored allocation A_n, the audit compares A_n and A_2n with the reference A_4n, parameter by
parameter. Unlike the residual, which sums over the parameters, it detects errors that cancel in the sum.
"""

import numpy as np
from numpy.typing import NDArray

from lca.allocation.iteration import integrate_iteration
from lca.allocation.task import Task
from lca.runtime.workers import Phase
from lca.store.audit import Audit, compare_parts, draw_iterations
from lca.store.summary import is_counted


def audit_sample(task: Task) -> None:
    """Audit a sample of the allocated iterations, distributed over all processes, and store the measured errors."""
    team, config = task.team, task.config
    intervals, status = task.allocation.read("intervals"), task.allocation.read("status")
    candidates = np.flatnonzero(is_counted(status)).tolist()
    if not config.audit or not candidates:
        return
    iterations = draw_iterations(candidates, config.audit, config.seed)
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
        task.writer.note("audit_result", Audit(iterations=iterations, **columns).to_json())


def _audit_iteration(task: Task, t: int, n: int) -> dict[str, float]:
    """Measure the errors of iteration t, which was allocated with n subintervals (see `compare_parts`)."""
    evaluate = task.gradient.evaluate_full_precision
    theta0, theta1 = task.theta(t), task.theta(t + 1)
    start, end = evaluate(theta0), evaluate(theta1)

    def integrate_reference(m: int) -> NDArray[np.float64]:
        """Return A_m (K,) by composite Simpson in full precision, whatever the options of the allocation."""
        options = {"tolerance": float("inf"), "min_intervals": m, "max_intervals": m}
        integral = integrate_iteration(evaluate, theta0, theta1, start, end, **options)  # type: ignore[arg-type]
        return integral.allocation.cpu().numpy()

    if "lca" in task.allocation.arrays:
        stored = np.asarray(task.allocation.lca[:, t], np.float64)
    else:
        stored = task.steps.integrate(task.steps.take(t), n).allocation.cpu().numpy()
    return compare_parts(stored, integrate_reference(2 * n), integrate_reference(4 * n))
