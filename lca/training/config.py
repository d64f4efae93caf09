"""The configuration of training."""

from collections.abc import Sequence

from lca.config import LARGEST_FLOAT, LARGEST_SEED, MANY, configuration, option
from lca.errors import UsageError
from lca.store.chunks import CODECS, require_codec
from lca.store.layer_options import Freeze, LayerOptions

# The default of each option of an optimizer, or None if the optimizer does not have it. For SGD, the learning rate is
# taken from the recipe of mnist-fc, and the momentum from the paper. The other values are the defaults of torch, except
# for the learning rate of RMSprop (0.01 in torch). `l2` adds ½ l2 ‖θ‖² to the training loss, whereas the `weight_decay`
# of AdamW shrinks θ directly.
OPTIMIZERS: dict[str, dict[str, float | None]] = {
    "sgd": {"learning_rate": 0.05, "momentum": 0.9, "l2": 0.0, "weight_decay": None},
    "adam": {"learning_rate": 0.001, "momentum": None, "l2": 0.0, "weight_decay": None},
    "adamw": {"learning_rate": 0.001, "momentum": None, "l2": None, "weight_decay": 0.01},
    "rmsprop": {"learning_rate": 0.001, "momentum": 0.0, "l2": 0.0, "weight_decay": None},
}
SCHEDULES = ("constant", "step", "cosine")
GAMMA = 0.1


@configuration
class TrainConfig:
    """Configuration of `lca.train`.

    On construction, options of the optimizer and the schedule that are None get their defaults. The device and the
    number of iterations are resolved when training begins.
    """

    optimizer: str = option(
        default="sgd",
        choices=tuple(OPTIMIZERS),
        help="Optimization algorithm.",
        unset="depends on the problem; sgd for your own problems",
        group="Optimizer",
    )
    learning_rate: float | None = option(
        default=None,
        short="lr",
        help="Initial learning rate.",
        unset="depends on the problem and the optimizer",
        metavar="RATE",
        group="Optimizer",
    )
    momentum: float | None = option(
        default=None,
        help="Momentum (SGD and RMSprop only).",
        unset="0.9 for SGD, 0 for RMSprop",
        metavar="M",
        group="Optimizer",
    )
    nesterov: bool = option(default=False, help="Use Nesterov momentum (SGD only).", group="Optimizer")
    l2: float | None = option(
        default=None,
        help="Add an L2 penalty, ½ l2 ‖θ‖², to the training loss (not AdamW). The allocated loss never includes it.",
        unset="0",
        metavar="X",
        group="Optimizer",
    )
    weight_decay: float | None = option(
        default=None,
        help="Decoupled weight decay (AdamW only).",
        unset="0.01 for AdamW",
        metavar="X",
        group="Optimizer",
    )
    schedule: str = option(
        default="constant",
        choices=SCHEDULES,
        help='Learning-rate schedule; "step" multiplies the rate by gamma at each milestone.',
        group="Learning-rate schedule",
    )
    milestones: Sequence[float] = option(
        default=(),
        short="milestone",
        metavar="EPOCH",
        help="Epoch at which the step schedule changes the learning rate. Repeatable.",
        group="Learning-rate schedule",
    )
    gamma: float | None = option(
        default=None,
        help="Factor by which the step schedule multiplies the learning rate at each milestone.",
        unset=f"{GAMMA} with the step schedule",
        metavar="FACTOR",
        group="Learning-rate schedule",
    )
    freeze: Sequence[str] = option(
        default=(),
        metavar="LAYER[@ITERATION]",
        help="Freeze the matching layers (name, glob, first or last), optionally starting at an iteration. Repeatable.",
        group="Layers and initial weights",
    )
    layers: Sequence[str] = option(
        default=(),
        short="layer",
        metavar="LAYER:NAME=NUMBER,…",
        help="Override lr, momentum, l2 or weight_decay for the matching layers (name, glob, first or last). "
        "Repeatable.",
        group="Layers and initial weights",
    )
    init_from: str | None = option(
        default=None,
        metavar="RUN[@ITERATE]",
        help="Start from an iterate of another run (its last iterate if no number is given).",
        group="Layers and initial weights",
    )
    batch_size: int = option(
        default=250, limits=(1, MANY), help="Number of examples per mini-batch (250 in the paper).", group="Training"
    )
    epochs: int | None = option(
        default=None,
        limits=(1, MANY),
        help="Number of epochs.",
        unset="depends on the problem; 1 for your own problems",
        metavar="N",
        group="Training",
    )
    iterations: int | None = option(
        default=None,
        limits=(1, MANY),
        metavar="T",
        help="Number of iterations, as an alternative to epochs.",
        unset="depends on the problem",
        group="Training",
    )
    seed: int = option(
        default=0,
        limits=(0, LARGEST_SEED),
        help="Random seed for weights, data order and dropout.",
        metavar="SEED",
        group="Training",
    )
    device: str = option(
        default="auto",
        help="Device to train on; auto selects the accelerator if there is one, otherwise the CPU.",
        metavar="DEVICE",
        group="Training",
    )
    codec: str = option(
        default="zstd",
        choices=tuple(CODECS),
        help="Lossless compression of the iterates. lz4 is the fastest codec. pcodec gives the smallest files, but is "
        "not part of the Zarr specification.",
        group="Recording",
    )

    def __post_init__(self) -> None:
        require_codec(self.codec)
        self._resolve_length()
        self._resolve_optimizer()
        self._resolve_schedule()
        for text in self.freeze:
            Freeze.parse(text)
        for text in self.layers:
            for name, value in LayerOptions.parse(text).options.items():
                self._require_option(name, value, f" in {text!r}")

    def _resolve_length(self) -> None:
        if self.iterations is not None and self.epochs is not None:
            raise UsageError("epochs and iterations are mutually exclusive", remedy="Pass one of them.")
        if self.iterations is None and self.epochs is None:
            object.__setattr__(self, "epochs", 1)

    def _resolve_optimizer(self) -> None:
        for name, default in OPTIMIZERS[self.optimizer].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            else:
                self._require_option(name, getattr(self, name))
        if not self.learning_rate:
            raise UsageError("learning_rate", expected="a positive number", found="0")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            found = f"{self.optimizer} with momentum {self.momentum or 0:g}"
            raise UsageError("nesterov", expected="sgd with a momentum above 0", found=found)

    def _resolve_schedule(self) -> None:
        for name in ("milestones", "freeze", "layers"):
            if isinstance(getattr(self, name), str) or not isinstance(getattr(self, name), Sequence):
                raise UsageError(name, expected="a list", found=repr(getattr(self, name)))
        if self.schedule == "step" and self.gamma is None:
            object.__setattr__(self, "gamma", GAMMA)
        if self.schedule == "step" and not self.milestones:
            raise UsageError(
                "the step schedule requires milestones",
                remedy="Pass the epochs at which it multiplies the learning rate by gamma.",
            )
        if self.schedule != "step" and (self.milestones or self.gamma is not None):
            raise UsageError(
                f"the {self.schedule} schedule takes neither milestones nor gamma",
                remedy="Leave them out, or choose the step schedule.",
            )
        numbers = [*self.milestones, *([] if self.gamma is None else [self.gamma])]
        if not all(0 < number < float("inf") for number in numbers):
            found = f"milestones {list(self.milestones)} and gamma {self.gamma}"
            raise UsageError("milestones and gamma", expected="positive numbers", found=found)

    def _require_option(self, name: str, value: float, where: str = "") -> None:
        """Raise UsageError unless the optimizer has this option and allows this value."""
        if OPTIMIZERS[self.optimizer][name] is None:
            raise UsageError(f"{self.optimizer} has no {name}{where}", remedy=f"Leave {name} out.")
        limit = 1 if name == "momentum" else LARGEST_FLOAT
        if not 0 <= value < limit:
            least = "a positive number" if name == "learning_rate" else "a number of at least 0"
            least += f", and below {LARGEST_FLOAT:g}" if value >= limit else ""
            expected = "0 <= momentum < 1" if name == "momentum" else least
            raise UsageError(f"{name}{where}", expected=expected, found=str(value))
