"""How to train: the options, and what they may be."""

from collections.abc import Sequence

from lca.config import configuration, option
from lca.errors import UsageError
from lca.store.chunks import CODECS, require_codec
from lca.store.layer_options import Freeze, LayerOptions

# The options of each optimizer and their defaults; None where it has no such option. The rate of SGD is mnist-fc's
# recipe, the others are torch's own; SGD's momentum is the paper's. l2 is a term of the training loss, ½ l2 ‖θ‖²;
# AdamW's weight_decay is no term of any loss, but shrinks θ directly.
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
    """How to train. A field that is None is resolved on construction; the device is resolved when training begins."""

    optimizer: str = option(default="sgd", choices=tuple(OPTIMIZERS), help="Optimizer.")
    learning_rate: float | None = option(
        default=None, short="lr", help="Learning rate.", unset="by problem and optimizer"
    )
    momentum: float | None = option(
        default=None, help="Momentum of SGD or RMSprop; Adam and AdamW have none.", unset="0.9 for SGD"
    )
    nesterov: bool = option(default=False, help="Use Nesterov momentum (SGD only).")
    l2: float | None = option(
        default=None,
        help="Add an L2 penalty, ½ l2 ‖θ‖², to the training loss; the allocated loss never includes it.",
        unset="0; AdamW has none",
    )
    weight_decay: float | None = option(
        default=None, help="Decoupled weight decay (AdamW only), which is no term of any loss.", unset="0.01 for AdamW"
    )
    schedule: str = option(
        default="constant",
        choices=SCHEDULES,
        help='Learning-rate schedule; "step" multiplies the rate by gamma at each milestone.',
    )
    milestones: Sequence[float] = option(
        default=(),
        short="milestone",
        metavar="EPOCH",
        help="Epoch at which the step schedule changes the rate. Repeatable.",
    )
    gamma: float | None = option(
        default=None,
        help="Factor by which the step schedule multiplies the rate.",
        unset=f"{GAMMA} with the step schedule",
    )
    freeze: Sequence[str] = option(
        default=(),
        metavar="LAYER[@ITERATION]",
        help="Freeze a layer, from the start or from an iteration on (name, glob, first or last). Repeatable.",
    )
    layers: Sequence[str] = option(
        default=(),
        short="layer",
        metavar="LAYER:NAME=NUMBER,…",
        help="Override lr, momentum, l2 or weight_decay for matching layers (name, glob, first or last). Repeatable.",
    )
    init_from: str | None = option(
        default=None, metavar="RUN[@ITERATE]", help="Start from an iterate of another run, by default its last one."
    )
    batch_size: int = option(default=250, help="Examples per mini-batch; the default is the paper's.")
    epochs: int | None = option(default=None, help="Number of epochs.", unset="by problem; 1 without iterations")
    iterations: int | None = option(
        default=None, metavar="T", help="Number of iterations, instead of epochs.", unset="by problem"
    )
    seed: int = option(default=0, help="Random seed for weights, data order and dropout.")
    device: str = option(default="auto", help="Device to train on; auto is CUDA if there is one, else the CPU.")
    codec: str = option(
        default="zstd",
        choices=tuple(CODECS),
        help="Lossless compression of the iterates; lz4 is fastest, pcodec smallest but outside zarr's specification.",
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
            raise UsageError("epochs and iterations exclude each other", remedy="Pass one of them.")
        if self.iterations is None and self.epochs is None:
            object.__setattr__(self, "epochs", 1)
        for name in ("batch_size", "epochs", "iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(name, expected="at least 1", found=str(value))

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
        if (self.schedule == "step") != bool(self.milestones) or (self.schedule != "step" and self.gamma is not None):
            raise UsageError(
                "the step schedule needs milestones, the epochs at which it multiplies the learning rate by gamma; no "
                "other schedule has either."
            )
        numbers = [*self.milestones, *([] if self.gamma is None else [self.gamma])]
        if not all(0 < number < float("inf") for number in numbers):
            found = f"milestones {list(self.milestones)} and gamma {self.gamma}"
            raise UsageError("milestones and gamma", expected="positive numbers", found=found)

    def _require_option(self, name: str, value: float, where: str = "") -> None:
        """Raise UsageError unless the optimizer has this option, and it may have this value."""
        if OPTIMIZERS[self.optimizer][name] is None:
            raise UsageError(f"{self.optimizer} has no {name}{where}", remedy=f"Leave {name} out.")
        limit = 1 if name == "momentum" else float("inf")
        if not 0 <= value < limit:
            expected = "0 <= momentum < 1" if name == "momentum" else "a positive number"
            raise UsageError(f"{name}{where}", expected=expected, found=str(value))
