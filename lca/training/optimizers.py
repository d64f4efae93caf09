"""The optimizers, their parameter groups, the learning-rate schedules and the L2 penalty."""

from collections.abc import Callable, Mapping
from math import cos, pi

from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from lca.training.config import OPTIMIZERS, TrainConfig
from lca.training.layer_options import find_options

KINDS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}
TORCH_NAMES = {"learning_rate": "lr", "l2": "weight_decay"}


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Create the optimizer, with a parameter group for each set of options.

    The first group contains the layers that use the general options.
    """
    defaults = OPTIMIZERS[config.optimizer]
    general = {name: float(getattr(config, name)) for name, default in defaults.items() if default is not None}
    groups: list[tuple[dict[str, float], list[Tensor]]] = [(general, [])]
    for tensor, own in find_options(model, config.layers):
        options = general | own
        if options not in [existing for existing, _ in groups]:
            groups.append((options, []))
        next(tensors for existing, tensors in groups if existing == options).append(tensor)
    optimizer = KINDS[config.optimizer](
        [{"params": tensors, **_rename_for_torch(options)} for options, tensors in groups],
        **_rename_for_torch(general),
        **({"nesterov": True} if config.nesterov else {}),
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def set_rates(optimizer: Optimizer, factor: float) -> None:
    """Set the learning rate of each group to its initial value times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["initial_lr"]


def compute_rate_factor(config: TrainConfig, t: int, T: int, iterations_per_epoch: int) -> float:
    """Return the factor by which the schedule multiplies the learning rates in iteration t of T.

    step: gamma, raised to the number of milestones (in epochs) that have passed.
    cosine: ½ (1 + cos πt/T), which falls from 1 towards 0   [arXiv 1608.03983, eq. 5]
    """
    if config.schedule == "step" and config.gamma is not None:
        return config.gamma ** sum(t >= milestone * iterations_per_epoch for milestone in config.milestones)
    return (1 + cos(pi * t / T)) / 2 if config.schedule == "cosine" else 1.0


def compute_l2_term(optimizer: Optimizer) -> Tensor | float:
    """Return ½ Σ l2 ‖θ‖² over the groups. The optimizer adds the gradient of this term to that of the loss.

    The term is 0 for AdamW, whose weight decay is not part of the loss.
    """
    if isinstance(optimizer, AdamW):
        return 0.0
    groups = [group for group in optimizer.param_groups if group["weight_decay"] and group["params"]]
    return sum((group["weight_decay"] / 2 * get_total_norm(group["params"]).detach() ** 2 for group in groups), 0.0)


def _rename_for_torch(options: Mapping[str, float]) -> dict[str, float]:
    return {TORCH_NAMES.get(name, name): value for name, value in options.items()}
