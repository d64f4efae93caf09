"""The experiments of the paper, as a table, and how much of each a scale takes.     [arXiv 1909.01440]

A scale trains a problem whole, or less of it, or another problem in its place. Whatever is not the paper's own setting
is found in the store of the run, and the page says it beside every number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = Mapping[str, Any]

MINIATURES = Path(__file__).with_name("miniatures.py")


@dataclass(frozen=True)
class Size:
    """How much of a problem a scale takes.

    problem: what is trained, if not the problem itself. options: of it, such as its width. iterations: of the training;
    None for those of the recipe. runs: of an experiment, at most. train: how the training loss is allocated, fields of
    AllocateConfig. whole: how it is once more, over other examples and iterations, for the percentage that helps, if
    the first is over too few examples for that. final: of what the loss at the last iterate is wanted, not trained on.
    subsets: how many examples an allocation over a part of them may have.
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
    """A training, repeated with the seeds 0, 1, …, and the allocations made of it.

    problem: as the paper names it. training: fields of TrainConfig beside the recipe of the problem. runs: if a scale
    allows as many. allocation: of the training loss, fields of AllocateConfig beside those of the scale. also: further
    ones by name, of the first run alone. val: whether the loss on `val` is allocated too. final: whether the loss at
    the last iterate is wanted on a split not trained on. subsets: whether to allocate over parts of the examples too.
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


# Learning rates of MNIST–FC. The paper gives none; the experiments mnist-fc-*-rate-* are how these were found.
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

# Momentum of the last layer of CIFAR–ResNet, by its delay m / (1 − m) in iterations; the regular runs have 0.9, so 9.
MOMENTUM = {delay: delay / (delay + 1) for delay in range(9)}

# The paper changes rate, momentum and batch size of CIFAR–ResNet "within reasonable ranges"; these are ours.
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
# Each rule by itself, never refined; for the one that the training loss is allocated by, that allocation serves.
RULES: Mapping[str, Options] = {
    rule: {"rule": rule, "tolerance": 1e9, "total_tolerance": 1e9, "audit": 0.0, **LAYERS_ONLY}
    for rule in ("first-order", "trapezoid", "simpson")
}

EXPERIMENTS = [
    Experiment(
        "mnist-fc-sgd",
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
    Experiment("mnist-lenet-sgd", "mnist-lenet", also=RULES),
    Experiment("mnist-lenet-adam", "mnist-lenet", OPTIMIZERS["adam"]),
    Experiment("mnist-resnet-sgd", "mnist-resnet", allocation=LAYERS_ONLY),
    Experiment("cifar-resnet-sgd", "cifar-resnet", runs=10, allocation=SIGNS, also=RULES, final=True),
    Experiment("cifar-resnet-adam", "cifar-resnet", OPTIMIZERS["adam"]),
    Experiment("cifar-allcnn-sgd", "cifar-allcnn", also=RULES),
    Experiment("cifar-allcnn-adam", "cifar-allcnn", OPTIMIZERS["adam"]),
    Experiment("cifar-vgg-sgd", "cifar-vgg", allocation=LAYERS_ONLY),
    Experiment("cifar-vgg-mini-sgd", "cifar-vgg-mini", allocation=LAYERS_ONLY),
    *(
        Experiment(f"cifar-resnet-{name}", "cifar-resnet", training, 10, LAYERS_ONLY, final=True)
        for name, training in (
            ("last-frozen", {"freeze": ["last"]}),
            ("last-slow", {"layers": ["last:lr=0.01"]}),  # a tenth of the recipe's
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

# On two cores in about a day. A network with BatchNorm has another loss over fewer examples, for they are one batch.
# Of samples of the iterations the first is half a step after the start, so that the early ones weigh what they should.
_SAMPLED = {"examples": 500, "rule": "trapezoid"}  # every iteration, for the layers' totals
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
