"""The state for resuming: what training needs beyond the iterates and the configuration."""

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
    """Replace the stored state atomically, so that a complete state exists at all times."""
    (run.path / STATE_FILE).write(lambda file: torch.save(dict(state), file))


def load(run: Run) -> dict[str, Any] | None:
    """Return the stored state, or None if there is none. It is loaded with weights_only=True, so it cannot run code."""
    path = run.path / STATE_FILE
    try:
        with path.open() as file:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except LCAError:
        raise
    except Exception as error:  # torch.load raises many types of exceptions for damaged files
        raise LCAError(
            f"{path} cannot be read as a training state",
            remedy="Remove it to resume from the first iterate.",
        ) from error
    # A state beyond the last iterate belongs to a run that was being replaced.
    return state if state["iterates"] <= run.n_iterates else None


def capture(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return a copy of what training needs to continue, apart from the parameters and the position in the data."""
    return {
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "buffers": {name: buffer.clone() for name, buffer in model.named_buffers()},
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Restore a captured state. The parameters are restored by the recorder."""
    optimizer.load_state_dict(state["optimizer"])
    for name, buffer in model.named_buffers():
        buffer.copy_(state["buffers"][name])
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"]:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
