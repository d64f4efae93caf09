"""The entry point `forecast`: the preflight of an allocation whose run does not exist yet."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lca.allocation.allocate import make_gradient, prepare_objective
from lca.allocation.config import AllocateConfig
from lca.allocation.opening import choose_format, require_enough_memory
from lca.allocation.preflight import Preflight, preflight
from lca.config import resolve
from lca.errors import UsageError
from lca.model.parameters import build_table, flatten
from lca.problem.problem import Problem, require_problem
from lca.problem.reference import measure_batch_dependence
from lca.store.paths import locate
from lca.store.run_writer import create_run


def forecast(problem: Problem, iterations: int, config: AllocateConfig | None = None, **options: Any) -> Preflight:
    """Check a problem before training, and forecast the cost of recording and allocating the run.

    The loss and its gradient are tested at the model's current parameters. The forecast assumes that no iteration has
    to be refined.

    Args:
        problem: Problem to be trained. Its model is moved to the device but otherwise left unchanged.
        iterations: Number of iterations of the training.
        config: Options that the allocation will use. Defaults to ``AllocateConfig()``.
        **options: Fields of `AllocateConfig` other than `iterations`; they take precedence over `config`.

    Returns:
        The findings about the model and its loss, and a forecast of time, disk space and memory.

    Raises:
        UsageError: If an option is invalid.
        LCAError: If the loss is not a deterministic function of the parameters, or its gradient is not the derivative
            of the loss.

    Example:
        >>> print(lca.forecast(problem, 10_000))
    """
    config = resolve(AllocateConfig, config, options)
    require_problem(problem)
    if iterations < 1:
        raise UsageError("iterations", expected="at least 1", found=f"{iterations:,}")
    objective = prepare_objective(problem, config, measure_batch_dependence(problem, config.split))
    chosen = choose_format(objective, config)
    require_enough_memory(objective, config, chosen)
    theta, table = flatten(problem.model), build_table(problem.model)
    with TemporaryDirectory() as folder, make_gradient(objective, config, chosen) as gradient:
        run = create_run(Path(folder) / "planned.zarr", table, {}, dtype=str(theta.dtype).removeprefix("torch.")).run
        run.attributes["iterates"] = iterations + 1
        checked = preflight(run, gradient, theta, config, range(iterations))
    run_bytes = theta.nbytes * (iterations + 1)
    return replace(checked, run_bytes=run_bytes, disk_free_bytes=locate(".").free_bytes())
