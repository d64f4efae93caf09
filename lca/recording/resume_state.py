"""The state from which a training resumes: all that is neither in the iterates nor in the configuration."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lca.errors import LCAError
from lca.store.run import Run
from lca.store.schema import STATE_FILE


def save(run: Run, state: Mapping[str, Any]) -> None:
    """Replace the stored state, so that at any moment one whole state exists."""
    (run.path / STATE_FILE).write(lambda file: torch.save(dict(state), file))


def load(run: Run) -> dict[str, Any] | None:
    """The state, or None if this run has none. Only tensors and plain values are read, never code."""
    path = run.path / STATE_FILE
    try:
        with path.open() as file:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except LCAError:
        raise
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise LCAError(
            f"{path} cannot be read ({str(error).splitlines()[0]})",
            remedy="Remove it, and resuming starts from the first iterate.",
        ) from error
    return state if state["iterates"] <= run.n_iterates else None  # else it is of a store that was being replaced


def capture(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """A copy of what a training needs to continue, besides the parameters and its place in the data."""
    return {
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "buffers": {name: buffer.clone() for name, buffer in model.named_buffers()},
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Restore a training to a captured state; the recorder restores the parameters."""
    optimizer.load_state_dict(state["optimizer"])
    for name, buffer in model.named_buffers():
        buffer.copy_(state["buffers"][name])
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"]:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
