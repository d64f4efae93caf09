"""The states of torch's random generators: that of the host, and those of the accelerators."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def get_accelerator_states() -> list[Tensor]:
    """Return the state of the random generator of each accelerator, or [] if there is none."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    module: Any = torch.get_device_module(accelerator)
    # MPS has a single device, and therefore a single state.
    return list(module.get_rng_state_all() if hasattr(module, "get_rng_state_all") else [module.get_rng_state()])


def set_accelerator_states(states: Sequence[Tensor]) -> None:
    """Restore the states that `get_accelerator_states` returned."""
    if not states:
        return
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        raise ValueError("expected the accelerator to which the random states belong, found none")
    module: Any = torch.get_device_module(accelerator)
    if hasattr(module, "set_rng_state_all"):
        module.set_rng_state_all(states)
    else:
        module.set_rng_state(states[0])


@contextmanager
def keep_random_state(device: torch.device) -> Iterator[None]:
    """Restore the states of the random generators of the host and of this device on exit."""
    generators: list[tuple[Any, list[torch.device]]] = [(torch, [])]
    if device.type != "cpu":
        generators.append((torch.get_device_module(device), [] if device.type == "mps" else [device]))
    states = [module.get_rng_state(*devices) for module, devices in generators]
    try:
        yield
    finally:
        for (module, devices), state in zip(generators, states, strict=True):
            module.set_rng_state(state, *devices)
