import pytest

import lca
from lca.errors import UsageError


def test_unset_fields_are_resolved():
    assert (lca.TrainConfig().learning_rate, lca.TrainConfig().momentum, lca.TrainConfig().epochs) == (0.05, 0.9, 1)
    adam = lca.TrainConfig(optimizer="adam", iterations=3)
    assert (adam.learning_rate, adam.momentum, adam.epochs) == (0.001, None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "sdg"}, "optimizer: expected one of sgd, adam, adamw, rmsprop, found 'sdg'"),
        ({"optimizer": "adam", "momentum": 0.9}, "adam has no momentum"),
        ({"epochs": 1, "iterations": 1}, "epochs and iterations are mutually exclusive. Pass one of them."),
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ({"iterations": -3}, "iterations: expected at least 1, found -3"),
        ({"learning_rate": 0}, "learning_rate: expected a positive number, found 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a positive number, found nan"),
        ({"momentum": 1.0}, "momentum: expected 0 <= momentum < 1, found 1.0"),
    ],
)
def test_invalid_options_are_reported(options, message):
    with pytest.raises(UsageError, match=message):
        lca.TrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamw", "l2": 0.1}, "adamw has no l2"),
        ({"optimizer": "sgd", "weight_decay": 0.1}, "sgd has no weight_decay"),
        ({"optimizer": "adam", "layers": ["last:momentum=0"]}, "adam has no momentum in 'last:momentum=0'"),
        ({"layers": ["last:momentum=1"]}, "momentum in 'last:momentum=1': expected 0 <= momentum < 1, found 1.0"),
        ({"layers": ["last:lr=-1"]}, "learning_rate in 'last:lr=-1': expected a positive number, found -1.0"),
        ({"l2": -0.1}, "l2: expected a number of at least 0, found -0.1"),
        (
            {"nesterov": True, "momentum": 0.0},
            "nesterov: expected sgd with a momentum above 0, found sgd with momentum 0",
        ),
        (
            {"nesterov": True, "optimizer": "adam"},
            "nesterov: expected sgd with a momentum above 0, found adam with momentum 0",
        ),
        ({"schedule": "linear"}, "schedule: expected one of constant, step, cosine, found 'linear'"),
        ({"schedule": "step"}, "the step schedule requires milestones"),
        ({"milestones": [3]}, "the constant schedule takes neither milestones nor gamma"),
        ({"gamma": 0.5}, "the constant schedule takes neither milestones nor gamma"),
        (
            {"schedule": "step", "milestones": [1], "gamma": 0},
            "milestones and gamma: expected positive numbers, found milestones \\[1\\] and gamma 0",
        ),
        ({"milestones": 3}, "milestones: expected a list, found 3"),
        ({"freeze": "last"}, "freeze: expected a list, found 'last'"),
        ({"schedule": "step", "milestones": [0]}, "milestones and gamma: expected positive numbers, found"),
    ],
)
def test_invalid_optimizer_options_are_reported(options, message):
    with pytest.raises(UsageError, match=message):
        lca.TrainConfig(**options)
