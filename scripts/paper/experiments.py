"""The experiments of the paper, and the size of each at every scale.     [arXiv 1909.01440]

A scale may train each problem in full, train it for fewer iterations, or replace it with a smaller one. The page states
next to every number how its runs differ from the paper's setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = Mapping[str, Any]

MINIATURES = Path(__file__).with_name("miniatures.py")


@dataclass(frozen=True)
class Size:
    """The size of a problem at one scale.

    problem: Problem to train instead, or None for the problem itself.
    options: Options of the problem, such as its width.
    iterations: Number of training iterations, or None for the number in the recipe.
    runs: Maximum number of runs per experiment.
    train: Options of the allocation of the training loss, as fields of AllocateConfig.
    whole: Options of a second allocation of the training loss, used for the percentage helping if the first one covers
        too few examples. None if it is not needed.
    final: Options of the allocation that evaluates the last iterate on a held-out split.
    subsets: Numbers of examples of the allocations over subsets.
    """

    problem: str | None = None
    options: Options = field(default_factory=dict)
    iterations: int | None = None
    runs: int = 10
    train: Options = field(default_factory=dict)
    whole: Options | None = None
    final: Options = field(default_factory=lambda: {"split": "test"})
    subsets: tuple[int, ...] = (1_000, 5_000, 20_000)


@dataclass(frozen=True)
class Experiment:
    """A training run that is repeated with seeds 0, 1, …, and the allocations of each repetition.

    problem: Name of the problem in the paper.
    training: Fields of TrainConfig that override the recipe of the problem.
    runs: Number of runs, unless the scale allows fewer.
    allocation: Fields of AllocateConfig for the training loss, in addition to the options of the scale.
    also: Options of further allocations of the first run, by name.
    val: Whether the loss on the split `val` is allocated too.
    final: Whether the last iterate is evaluated on a held-out split.
    subsets: Whether the first run is also allocated over subsets of the examples.
    """

    name: str
    problem: str
    training: Options = field(default_factory=dict)
    runs: int = 3
    allocation: Options = field(default_factory=dict)
    also: Mapping[str, Options] = field(default_factory=dict)
    val: bool = False
    final: bool = False
    subsets: bool = False


# Learning rates of MNIST–FC. The paper gives none, so they were chosen with the experiments mnist-fc-*-rate-*.
RATE, PLAIN_RATE, ADAM_RATE = 0.05, 0.2, 0.002
RATES = {
    "sgd": (0.01, 0.02, 0.1, 0.2),
    "plain": (0.05, 0.1, 0.5),
    "adam": (0.0005, 0.001, 0.005, 0.01),
}
OPTIMIZERS: Mapping[str, Options] = {
    "sgd": {},
    "plain": {"momentum": 0.0},
    "adam": {"optimizer": "adam"},
}

# Delay m / (1 − m) -> momentum m of the last layer of CIFAR–ResNet. The regular runs have momentum 0.9 and delay 9.
MOMENTUM = {delay: delay / (delay + 1) for delay in range(9)}

# The paper varies the learning rate, momentum and batch size of CIFAR–ResNet "within reasonable ranges". The values
# were chosen here.
SWEEP: Mapping[str, Options] = {
    "rate-0.02": {"learning_rate": 0.02},
    "rate-0.05": {"learning_rate": 0.05},
    "rate-0.2": {"learning_rate": 0.2},
    "momentum-0": {"momentum": 0.0},
    "momentum-0.5": {"momentum": 0.5},
    "momentum-0.8": {"momentum": 0.8},
    "batch-125": {"batch_size": 125},
    "batch-500": {"batch_size": 500},
}

SIGNS = {"gradient_signs": True}
BY_CLASS = {"by_class": True, **SIGNS}
LAYERS_ONLY = {"keep": "tensors"}
# Each quadrature rule without refinement. The rule of the allocation `train` is not repeated.
RULES: Mapping[str, Options] = {
    rule: {"rule": rule, "tolerance": 1e9, "total_tolerance": 1e9, "audit": 0.0, **LAYERS_ONLY}
    for rule in ("first-order", "trapezoid", "simpson")
}

FC, LENET, RESNET, ALLCNN = "mnist-fc-sgd", "mnist-lenet-sgd", "cifar-resnet-sgd", "cifar-allcnn-sgd"

EXPERIMENTS = [
    Experiment(
        FC,
        "mnist-fc",
        {"learning_rate": RATE},
        allocation=BY_CLASS,
        also=RULES,
        val=True,
        subsets=True,
    ),
    Experiment("mnist-fc-plain", "mnist-fc", {"learning_rate": PLAIN_RATE, "momentum": 0.0}, allocation=BY_CLASS),
    Experiment("mnist-fc-adam", "mnist-fc", {"learning_rate": ADAM_RATE, "optimizer": "adam"}, allocation=BY_CLASS),
    *(
        Experiment(
            f"mnist-fc-{optimizer}-rate-{rate:g}",
            "mnist-fc",
            {"learning_rate": rate, **OPTIMIZERS[optimizer]},
            runs=1,
            allocation={"iterations": "10::20", "audit": 0.0},
        )
        for optimizer, rates in RATES.items()
        for rate in rates
    ),
    Experiment(LENET, "mnist-lenet", also=RULES),
    Experiment("mnist-lenet-adam", "mnist-lenet", OPTIMIZERS["adam"]),
    Experiment("mnist-resnet-sgd", "mnist-resnet", allocation=LAYERS_ONLY),
    Experiment(RESNET, "cifar-resnet", runs=10, allocation=SIGNS, also=RULES, final=True),
    Experiment("cifar-resnet-adam", "cifar-resnet", OPTIMIZERS["adam"]),
    Experiment(ALLCNN, "cifar-allcnn", also=RULES),
    Experiment("cifar-allcnn-adam", "cifar-allcnn", OPTIMIZERS["adam"]),
    Experiment("cifar-vgg-sgd", "cifar-vgg", allocation=LAYERS_ONLY),
    Experiment("cifar-vgg-mini-sgd", "cifar-vgg-mini", allocation=LAYERS_ONLY),
    *(
        Experiment(f"cifar-resnet-{name}", "cifar-resnet", training, 10, LAYERS_ONLY, final=True)
        for name, training in (
            ("last-frozen", {"freeze": ["last"]}),
            ("last-slow", {"layers": ["last:lr=0.01"]}),  # a tenth of the rate in the recipe
            ("first-frozen", {"freeze": ["first"]}),
        )
    ),
    *(
        Experiment(f"cifar-resnet-delay-{delay}", "cifar-resnet", {"layers": [f"last:momentum={m}"]}, 1, LAYERS_ONLY)
        for delay, m in MOMENTUM.items()
    ),
    *(Experiment(f"cifar-resnet-{name}", "cifar-resnet", training, runs=1) for name, training in SWEEP.items()),
    Experiment("charlm-transformer", "charlm-transformer", runs=1),
]

# The scale "cpu" takes about a day on two cores. For a network with BatchNorm, a subset of the examples has a different
# loss, because it forms a single batch. Sampled iterations begin half a stride after the start, so that the early ones
# are not overrepresented.
_SAMPLED = {"examples": 500, "rule": "trapezoid"}  # all iterations, but few examples, for the layer totals
_FEW = {"audit": 0.0}

SCALES: Mapping[str, Mapping[str, Size]] = {
    "smoke": {
        "mnist-fc": Size("digits-fc", iterations=150, runs=2, subsets=(100, 300, 800)),
        "mnist-lenet": Size(f"{MINIATURES}:lenet", iterations=40, runs=2),
        "mnist-resnet": Size("digits-resnet", iterations=40, runs=2, train={"examples": 300}),
        "cifar-resnet": Size("digits-resnet", iterations=60, runs=3, train={"examples": 300}, final={"split": "val"}),
        "cifar-allcnn": Size(f"{MINIATURES}:allcnn", iterations=30, runs=2),
        "cifar-vgg": Size(f"{MINIATURES}:vgg", iterations=30, runs=2),
        "cifar-vgg-mini": Size(f"{MINIATURES}:vgg_mini", iterations=30, runs=2),
        "charlm-transformer": Size(options={"blocks": 1, "width": 0.25}, iterations=40, train={"examples": 100}),
    },
    "cpu": {
        "mnist-fc": Size(runs=3),
        "mnist-lenet": Size(
            runs=3,
            train={"examples": 2_000, "keep": "tensors"},
            whole={"iterations": "20::40", **_FEW},
        ),
        "mnist-resnet": Size(iterations=440, runs=3, train=_SAMPLED),
        "cifar-resnet": Size(
            iterations=450,
            runs=3,
            train=_SAMPLED,
            whole={"examples": 5_000, "iterations": "37::75", **_FEW},
            final={"split": "test", "examples": 2_500},
        ),
        "cifar-allcnn": Size(
            iterations=180,
            runs=3,
            train={"examples": 250, "rule": "trapezoid"},
            whole={"examples": 1_000, "iterations": "18::36", **_FEW},
        ),
        "cifar-vgg": Size(iterations=900, runs=3, train=_SAMPLED),
        "cifar-vgg-mini": Size(iterations=900, runs=3, train=_SAMPLED),
        "charlm-transformer": Size(),
    },
    "paper": {
        "mnist-fc": Size(),
        "mnist-lenet": Size(train={"keep_bits": 10}),
        "mnist-resnet": Size(),
        "cifar-resnet": Size(train={"keep_bits": 10}),
        "cifar-allcnn": Size(train={"keep_bits": 10}),
        "cifar-vgg": Size(),
        "cifar-vgg-mini": Size(),
        "charlm-transformer": Size(),
    },
}
