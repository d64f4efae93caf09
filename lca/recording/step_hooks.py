"""Hooks that report every step of an optimizer, including steps that a gradient scaler skips."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


def watch_steps(
    optimizer: Optimizer, scaler: torch.amp.GradScaler | None, on_step: Callable[[], None]
) -> list[Callable[[], None]]:
    """Call `on_step` after every step of the optimizer. For a step that the scaler skips, call it in `scaler.update`.

    Returns functions that remove the hooks.
    """
    stepped = False

    def after_step(*_: object) -> None:
        nonlocal stepped
        stepped = True
        on_step()

    detach: list[Callable[[], None]] = [optimizer.register_step_post_hook(after_step).remove]
    if scaler is not None:
        update = scaler.update

        def watched_update(*arguments: Any, **options: Any) -> None:
            nonlocal stepped
            if not stepped:
                on_step()
            stepped = False
            update(*arguments, **options)

        scaler.update = watched_update  # type: ignore[method-assign]
        detach.append(lambda: setattr(scaler, "update", update))
    return detach


def unwrap(optimizer: Any) -> Optimizer:
    """Return the optimizer inside the wrapper of `accelerate`, which forwards steps but does not support hooks.

    Other wrappers are not unwrapped. If one of them changed the parameters after the inner step, the iterate would be
    recorded too early.
    """
    inner: Optimizer = optimizer.optimizer if type(optimizer).__module__.startswith("accelerate.") else optimizer
    return inner
