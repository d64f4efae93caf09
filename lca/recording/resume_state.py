"""The state for resuming: what training needs beyond the iterates and the configuration."""

import copy
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lca.errors import DamagedError, LCAError
from lca.runtime.random_state import get_accelerator_states, set_accelerator_states
from lca.store.checked_file import read_checked, write_checked
from lca.store.paths import Location
from lca.store.run import Run
from lca.store.schema import PREVIOUS_STATE, STATE_FILE


def save(run: Run, state: Mapping[str, Any]) -> None:
    """Replace the stored state atomically, and keep the previous one. Both have a checksum."""
    write_checked(run.path / STATE_FILE, lambda file: torch.save(dict(state), file), PREVIOUS_STATE)


def load(run: Run) -> dict[str, Any] | None:
    """Return the stored state, or the previous one if the stored state is damaged. Return None if there is none.

    The state is loaded with weights_only=True, so it cannot run code. Raises LCAError if all states are damaged.
    """
    folder, _, name = STATE_FILE.rpartition("/")
    error: LCAError | None = None
    for each in (name, PREVIOUS_STATE):
        try:
            return _load(run, run.path / folder / each)
        except FileNotFoundError:
            continue
        except DamagedError as damage:
            error = error or damage
    if error:
        raise error
    return None


def _load(run: Run, path: Location) -> dict[str, Any] | None:
    content, remedy = read_checked(path), "Remove it to resume from the first iterate."
    try:
        state: Any = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types of exceptions
        raise LCAError(f"{path} cannot be read as a training state", remedy=remedy) from error
    iterates = state.get("iterates") if isinstance(state, dict) else None
    if type(iterates) is not int or iterates < 1:
        raise LCAError(f"{path} is not a training state: it has no number of iterates", remedy=remedy)
    # A state beyond the last iterate belongs to a run that was being replaced.
    return state if iterates <= run.n_iterates else None


def capture(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return a copy of what training needs to continue, apart from the parameters and the position in the data."""
    return {
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "buffers": {name: buffer.clone() for name, buffer in model.named_buffers()},
        "rng": torch.get_rng_state(),
        "accelerator_rng": get_accelerator_states(),
    }


def restore(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Restore a captured state. The parameters are restored by the recorder."""
    try:
        optimizer.load_state_dict(state["optimizer"])
        buffers = dict(model.named_buffers())
        if set(state["buffers"]) != set(buffers):
            raise KeyError("the names of the buffers differ")
        for name, buffer in buffers.items():
            buffer.copy_(state["buffers"][name])
        torch.set_rng_state(state["rng"])
        set_accelerator_states(state["accelerator_rng"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise LCAError(
            f"the stored training state does not fit the model or its optimizer ({error})",
            remedy=f"Remove {STATE_FILE} from the run to resume from the first iterate.",
        ) from error
