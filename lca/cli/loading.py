"""Loading the problem that a run was trained on."""

from pathlib import Path

from lca.errors import Argument, LCAError, UsageError
from lca.problem.loading import load
from lca.problem.problem import Problem
from lca.problem.user_code import is_factory
from lca.problem.zoo.presets import PRESETS
from lca.store.run import Run


def load_problem(run: Run, name: str | None, data_dir: Path | None, download: bool) -> Problem:
    """Load the problem called `name`, or the built-in problem that the run names if `name` is None.

    User code is imported only if the user names it: a store may come from anyone, so its problem name is not trusted.
    The problem options in the store are plain values and are always passed on.
    """
    name, is_stored = name or run.attributes.get("problem"), name is None
    if is_stored and name not in PRESETS:
        named = f"was trained on {name!r}, which is not a built-in problem" if name else "does not name its problem"
        location = str(name) if name and is_factory(str(name)) else "path/file.py:factory"
        raise UsageError(
            f"{run.path} {named}",
            remedy=("Pass the problem that the run was trained on with ", Argument("problem", location), "."),
        )
    options = run.attributes.get("problem_options", {})
    if not all(isinstance(value, str | int | float | bool | None) for value in options.values()):
        raise LCAError(
            f"the problem options of {run.path}", expected="strings, numbers, booleans or null", found=str(options)
        )
    # The seed recreates random weights and buffers that are not recorded, such as those of frozen layers.
    seed = run.attributes.get("train", {}).get("seed", 0)
    return load(str(name), options=options, data_dir=data_dir, download=download, seed=int(seed))
