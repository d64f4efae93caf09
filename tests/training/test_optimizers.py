"""The steps, worked out from the recorded iterates and autograd alone."""

from math import cos, pi

import pytest
import torch

import lca
from lca.errors import UsageError
from lca.training.batch_order import draw_indices

T = 8


def recorded(tmp_path, problem, **options):
    """(T+1, K) of a run of the small problem, batches of 20 of 60, so three to an epoch."""
    config = lca.TrainConfig(**{"batch_size": 20, "iterations": T, "learning_rate": 0.1, "device": "cpu", **options})
    run = lca.train(problem(), tmp_path / "run.zarr", config)
    return torch.from_numpy(run.weights[:]).T.double(), run


def gradients(thetas, problem):
    """(T, K), of the mini-batch losses at each iterate, and these losses (T,)."""
    (x, y), model = problem().train, problem().model.double()
    found, losses = [], []
    for theta, index in zip(thetas[:-1], draw_indices(60, 20, seed=0), strict=False):
        torch.nn.utils.vector_to_parameters(theta.clone(), model.parameters())
        loss = torch.nn.functional.cross_entropy(model(x[index].double()), y[index])
        found.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))]))
        losses.append(float(loss.detach()))
    return torch.stack(found), losses


def require_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


FIRST, LAST = slice(0, 24), slice(24, 51)  # the two layers of the small net, each with its bias


def test_nesterov(tmp_path, problem):
    """v ← μ v + g, θ ← θ − η (g + μ v)     [Sutskever et al. 2013, as torch has it]"""
    thetas, _ = recorded(tmp_path, problem, momentum=0.8, nesterov=True)
    velocity, (g, _) = 0, gradients(thetas, problem)
    for t in range(T):
        velocity = 0.8 * velocity + g[t]
        require_close(thetas[t + 1] - thetas[t], -0.1 * (g[t] + 0.8 * velocity))


def test_l2_is_in_the_training_loss(tmp_path, problem):
    """of which the gradient is g + l2 θ, and the recorded loss has ½ l2 ‖θ‖²."""
    thetas, run = recorded(tmp_path, problem, momentum=0.0, l2=0.3)
    g, losses = gradients(thetas, problem)
    require_close(thetas[1:] - thetas[:-1], -0.1 * (g + 0.3 * thetas[:-1]))
    wanted = [loss + 0.15 * float(theta.square().sum()) for loss, theta in zip(losses, thetas, strict=False)]
    require_close(torch.from_numpy(run.training["loss"][:]), torch.tensor(wanted, dtype=torch.float64))


def test_l2_is_never_in_the_loss_that_is_allocated(tmp_path, problem):
    thetas, _ = recorded(tmp_path, problem, momentum=0.0, l2=0.3)
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(device="cpu"))
    (x, y), model = problem().train, problem().model
    torch.nn.utils.vector_to_parameters(thetas[-1].float(), model.parameters())
    assert summary.loss_end == pytest.approx(float(torch.nn.functional.cross_entropy(model(x), y).detach()), rel=1e-5)
    assert summary.within_bounds


def test_adamw_shrinks_apart_from_the_loss(tmp_path, problem):
    """First step of Adam: −η g/(|g| + ε); AdamW's shrinks θ by 1 − η λ before   [arXiv 1711.05101, algorithm 2]"""
    thetas, run = recorded(tmp_path, problem, optimizer="adamw", weight_decay=0.5)
    g, losses = gradients(thetas, problem)
    require_close(thetas[1], thetas[0] * (1 - 0.1 * 0.5) - 0.1 * g[0] / (g[0].abs() + 1e-8))
    require_close(torch.from_numpy(run.training["loss"][:]), torch.tensor(losses, dtype=torch.float64))


def test_adamw_shrinks_each_layer_as_it_is_told(tmp_path, problem):
    thetas, _ = recorded(tmp_path, problem, optimizer="adamw", weight_decay=0.5, layers=["last:weight_decay=0,lr=0.2"])
    g, _ = gradients(thetas, problem)
    step = g[0] / (g[0].abs() + 1e-8)
    require_close(thetas[1, FIRST], thetas[0, FIRST] * (1 - 0.1 * 0.5) - 0.1 * step[FIRST])
    require_close(thetas[1, LAST], thetas[0, LAST] - 0.2 * step[LAST])


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_the_l2_of_an_adaptive_optimizer_is_scaled_like_the_gradient(tmp_path, problem, optimizer):
    """First step: −η g / (c |g| + ε), g with l2 θ in it; c = 1 for Adam, whose averages are made unbiased."""
    thetas, _ = recorded(tmp_path, problem, optimizer=optimizer, learning_rate=0.01, l2=0.3)
    g, _ = gradients(thetas, problem)
    g = g[0] + 0.3 * thetas[0]
    scale = {"adam": 1.0, "rmsprop": 0.1}[optimizer]  # RMSprop's first average of g² is (1 − 0.99) g², and c its root
    require_close(thetas[1] - thetas[0], -0.01 * g / (scale * g.abs() + 1e-8))


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"schedule": "cosine"}, lambda t: (1 + cos(pi * t / T)) / 2),
        ({"schedule": "step", "milestones": [1, 2], "gamma": 0.5}, lambda t: 0.5 ** (t // 3)),
        ({"schedule": "step", "milestones": [1.5]}, lambda t: 0.1 if t >= 4.5 else 1),
    ],
)
def test_schedules(tmp_path, problem, options, factor):
    thetas, run = recorded(tmp_path, problem, momentum=0.0, layers=["last:lr=0.3"], **options)
    g, _ = gradients(thetas, problem)
    assert run.training["learning_rate"][:].tolist() == pytest.approx([0.1 * factor(t) for t in range(T)])
    for t in range(T):
        require_close((thetas[t + 1] - thetas[t])[FIRST], -0.1 * factor(t) * g[t, FIRST])
        require_close((thetas[t + 1] - thetas[t])[LAST], -0.3 * factor(t) * g[t, LAST])


def test_a_layer_has_options_of_its_own(tmp_path, problem):
    thetas, run = recorded(tmp_path, problem, momentum=0.9, layers=["last:momentum=0,lr=0.02", "first:l2=0.5"])
    velocity, (g, losses) = 0, gradients(thetas, problem)
    for t in range(T):
        velocity = 0.9 * velocity + g[t, FIRST] + 0.5 * thetas[t, FIRST]
        require_close((thetas[t + 1] - thetas[t])[FIRST], -0.1 * velocity)
        require_close((thetas[t + 1] - thetas[t])[LAST], -0.02 * g[t, LAST])
    wanted = [loss + 0.25 * float(theta[FIRST].square().sum()) for loss, theta in zip(losses, thetas, strict=False)]
    require_close(torch.from_numpy(run.training["loss"][:]), torch.tensor(wanted, dtype=torch.float64))
    assert run.training["learning_rate"][:].tolist() == [0.1] * T


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_what_is_frozen_does_not_move_and_has_no_part_in_the_loss_change(tmp_path, problem, optimizer):
    rate = {"sgd": 0.1}.get(optimizer, 0.01)
    thetas, run = recorded(tmp_path, problem, optimizer=optimizer, learning_rate=rate, freeze=["first", "last@5"])
    moved = thetas[1:] != thetas[:-1]
    assert not moved[:, FIRST].any()
    assert moved[:5, LAST].any(dim=1).all()
    assert not moved[5:].any()
    assert [p.name for p in run.parameters] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    given = problem()
    lca.allocate(tmp_path / "run.zarr", given, lca.AllocateConfig(device="cpu"))
    allocation = lca.open(tmp_path / "run.zarr").allocation("train")
    assert not allocation.lca[FIRST].any()
    assert not allocation.tensor_lca[:, :2].any()
    assert not allocation.lca[:, 5:].any()
    assert allocation.tensor_lca[:5, 2:].all()


def test_the_model_is_not_left_frozen(tmp_path, problem):
    given = problem()
    config = lca.TrainConfig(batch_size=20, iterations=3, device="cpu", freeze=["first"])
    lca.train(given, tmp_path / "run.zarr", config)
    assert all(parameter.requires_grad for parameter in given.model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamw", "l2": 0.1}, "adamw has no l2"),
        ({"optimizer": "sgd", "weight_decay": 0.1}, "sgd has no weight_decay"),
        ({"optimizer": "adam", "layers": ["last:momentum=0"]}, "adam has no momentum in 'last:momentum=0'"),
        ({"layers": ["last:momentum=1"]}, "momentum is 1.0 in 'last:momentum=1'; 0 <= momentum < 1"),
        ({"layers": ["last:lr=-1"]}, "learning_rate is -1.0 in"),
        ({"l2": -0.1}, "l2 is -0.1"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs sgd with a momentum"),
        ({"nesterov": True, "optimizer": "adam"}, "nesterov needs sgd"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; the known ones are constant, step, cosine"),
        ({"schedule": "step"}, "the schedule step needs milestones"),
        ({"milestones": [3]}, "no other schedule has either"),
        ({"gamma": 0.5}, "no other schedule has either"),
        ({"schedule": "step", "milestones": [1], "gamma": 0}, "gamma 0; positive numbers were wanted"),
        ({"milestones": 3}, "milestones is 3; a list of them was wanted"),
        ({"freeze": "last"}, "freeze is 'last'; a list of them was wanted"),
        ({"schedule": "step", "milestones": [0]}, "positive numbers were wanted"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        lca.TrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["last@8"]}, "freeze last@8 is never reached: the training has 8 iterations, 2.67 epochs of 3"),
        ({"schedule": "step", "milestones": [1, 3]}, "milestone 3 is never reached"),
    ],
)
def test_what_would_never_happen_is_refused(tmp_path, problem, options, message):
    with pytest.raises(UsageError, match=message):
        recorded(tmp_path, problem, **options)
    assert not (tmp_path / "run.zarr").exists()


def test_a_layer_that_is_not_there_is_named_before_anything_is_made(tmp_path, problem):
    for options in ({"freeze": ["fc9"]}, {"layers": ["fc9:lr=1"]}):
        with pytest.raises(UsageError, match="the model has no layer 'fc9'; it has 0, 2, first and last"):
            recorded(tmp_path, problem, **options)
    assert not (tmp_path / "run.zarr").exists()
