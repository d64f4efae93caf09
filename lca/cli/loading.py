"""The problem that a run was trained on."""

from pathlib import Path

from lca.errors import Argument, LCAError
from lca.problem.loading import load
from lca.problem.problem import Problem
from lca.problem.zoo.presets import PRESETS
from lca.store.run import Run


def load_problem(run: Run, name: str | None, data_dir: Path | None, download: bool) -> Problem:
    """Load the problem of this name, or else the built-in one that the store names.

    Code named only by a store is never imported: it may be anyone's. Its options, plain values, are passed on.
    """
    name, is_stored = name or run.attributes.get("problem"), name is None
    if is_stored and name not in PRESETS:
        raise LCAError(
            f"the problem of {run.path}",
            expected="a built-in problem",
            found=repr(name) if name else "none named",
            remedy=("Pass the problem it was trained on with ", Argument("problem", "path/file.py:factory"), "."),
        )
    options = run.attributes.get("problem_options", {})
    if not all(isinstance(value, str | int | float | bool | None) for value in options.values()):
        raise LCAError(f"the problem options of {run.path}", expected="plain values", found=str(options))
    seed = run.attributes.get("train", {}).get("seed", 0)  # of weights and buffers that are drawn and not recorded
    return load(str(name), options=options, data_dir=data_dir, download=download, seed=int(seed))
