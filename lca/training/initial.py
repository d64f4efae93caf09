"""Training that starts from an iterate of another run."""

from typing import Any

import torch
from torch import nn

from lca.errors import UsageError
from lca.model.parameters import build_table, get_trainable
from lca.model.vectors import assign
from lca.store.paths import Location, locate
from lca.store.run import open_run


def find_initial(source: str | None, target: Location) -> dict[str, Any] | None:
    """Return the iterate that `source` names, as {"run": path, "iterate": number}, or None if `source` is None.

    `source` has the form "RUN@ITERATE". "RUN" alone names the last iterate of the run, which must be complete. `target`
    is the location of the new run.
    """
    if source is None:
        return None
    path, _, number = source.rpartition("@")
    if not path or not number.isdecimal() or locate(source).exists():
        path, number = source, ""
    run = open_run(path)
    if str(run.path) == str(target):
        raise UsageError(f"{path} cannot start from itself", remedy="Choose another path for the new run.")
    if not number and run.status != "complete":
        raise UsageError(
            f"{path} is unfinished, so its last iterate is not known", remedy=f"Choose an iterate, as in {path}@0."
        )
    iterate = int(number) if number else run.n_iterates - 1
    if not 0 <= iterate < run.n_iterates:
        raise UsageError(f"the iterate of {path}", expected=f"0 to {run.n_iterates - 1:,}", found=f"{iterate:,}")
    return {"run": path, "iterate": iterate}


def start_from(model: nn.Module, run: str, iterate: int) -> None:
    """Set the model's parameters to an iterate of a run.

    Buffers, such as BatchNorm's running statistics, keep their values, because runs do not store them. BatchNorm in
    training mode does not use its running statistics.
    """
    source = open_run(run)
    source.parameters.require_same(build_table(model), run, "the model")
    theta = torch.from_numpy(source.iterate(iterate))
    assign(get_trainable(model).values(), theta, source.parameters)
