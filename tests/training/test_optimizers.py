"""The steps of the optimizers, computed from the recorded iterates with autograd."""

from math import cos, pi

import pytest
import torch

import lca
from lca.training.batch_order import draw_indices

T = 8
FIRST, LAST = slice(0, 24), slice(24, 51)  # the two layers of the small network, each with its bias


def train(tmp_path, problem, **options):
    """Train the small problem with 20 of 60 examples per mini-batch. Return the iterates, (T + 1, K), and the run."""
    config = lca.TrainConfig(**{"batch_size": 20, "iterations": T, "learning_rate": 0.1, "device": "cpu", **options})
    run = lca.train(problem(), tmp_path / "run.zarr", config)
    return torch.from_numpy(run.weights[:]).T.double(), run


def gradients(thetas, problem):
    """Return the gradients of the mini-batch losses at each iterate, (T, K), and these losses, (T,)."""
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


def test_nesterov_momentum(tmp_path, problem):
    """v ← μ v + g, θ ← θ − η (g + μ v)     [Sutskever et al. 2013, in the form that torch uses]"""
    thetas, _ = train(tmp_path, problem, momentum=0.8, nesterov=True)
    velocity, (g, _) = 0, gradients(thetas, problem)
    for t in range(T):
        velocity = 0.8 * velocity + g[t]
        require_close(thetas[t + 1] - thetas[t], -0.1 * (g[t] + 0.8 * velocity))


def test_training_loss_includes_l2(tmp_path, problem):
    """The gradient is g + l2 θ, and the recorded loss contains ½ l2 ‖θ‖²."""
    thetas, run = train(tmp_path, problem, momentum=0.0, l2=0.3)
    g, losses = gradients(thetas, problem)
    require_close(thetas[1:] - thetas[:-1], -0.1 * (g + 0.3 * thetas[:-1]))
    expected = [loss + 0.15 * float(theta.square().sum()) for loss, theta in zip(losses, thetas, strict=False)]
    require_close(torch.from_numpy(run.training["loss"][:]), torch.tensor(expected, dtype=torch.float64))


def test_weight_decay_of_adamw_is_not_in_the_loss(tmp_path, problem):
    """The first step of Adam is −η g/(|g| + ε). AdamW multiplies θ by 1 − η λ before it [arXiv 1711.05101, alg. 2]."""
    thetas, run = train(tmp_path, problem, optimizer="adamw", weight_decay=0.5)
    g, losses = gradients(thetas, problem)
    require_close(thetas[1], thetas[0] * (1 - 0.1 * 0.5) - 0.1 * g[0] / (g[0].abs() + 1e-8))
    require_close(torch.from_numpy(run.training["loss"][:]), torch.tensor(losses, dtype=torch.float64))


def test_weight_decay_of_adamw_can_differ_by_layer(tmp_path, problem):
    thetas, _ = train(tmp_path, problem, optimizer="adamw", weight_decay=0.5, layers=["last:weight_decay=0,lr=0.2"])
    g, _ = gradients(thetas, problem)
    step = g[0] / (g[0].abs() + 1e-8)
    require_close(thetas[1, FIRST], thetas[0, FIRST] * (1 - 0.1 * 0.5) - 0.1 * step[FIRST])
    require_close(thetas[1, LAST], thetas[0, LAST] - 0.2 * step[LAST])


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_l2_of_an_adaptive_optimizer_is_scaled_like_the_gradient(tmp_path, problem, optimizer):
    """The first step is −η g / (c |g| + ε), where g includes l2 θ.

    c is 1 for Adam, which corrects the bias of its averages.
    """
    thetas, _ = train(tmp_path, problem, optimizer=optimizer, learning_rate=0.01, l2=0.3)
    g, _ = gradients(thetas, problem)
    g = g[0] + 0.3 * thetas[0]
    scale = {"adam": 1.0, "rmsprop": 0.1}[optimizer]  # RMSprop: c² = 1 − 0.99, the weight of g² in its first mean
    require_close(thetas[1] - thetas[0], -0.01 * g / (scale * g.abs() + 1e-8))


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"schedule": "cosine"}, lambda t: (1 + cos(pi * t / T)) / 2),
        ({"schedule": "step", "milestones": [1, 2], "gamma": 0.5}, lambda t: 0.5 ** (t // 3)),
        ({"schedule": "step", "milestones": [1.5]}, lambda t: 0.1 if t >= 4.5 else 1),
    ],
)
def test_schedules_scale_the_learning_rates(tmp_path, problem, options, factor):
    thetas, run = train(tmp_path, problem, momentum=0.0, layers=["last:lr=0.3"], **options)
    g, _ = gradients(thetas, problem)
    assert run.training["learning_rate"][:].tolist() == pytest.approx([0.1 * factor(t) for t in range(T)])
    for t in range(T):
        require_close((thetas[t + 1] - thetas[t])[FIRST], -0.1 * factor(t) * g[t, FIRST])
        require_close((thetas[t + 1] - thetas[t])[LAST], -0.3 * factor(t) * g[t, LAST])


def test_options_can_differ_by_layer(tmp_path, problem):
    thetas, run = train(tmp_path, problem, momentum=0.9, layers=["last:momentum=0,lr=0.02", "first:l2=0.5"])
    velocity, (g, losses) = 0, gradients(thetas, problem)
    for t in range(T):
        velocity = 0.9 * velocity + g[t, FIRST] + 0.5 * thetas[t, FIRST]
        require_close((thetas[t + 1] - thetas[t])[FIRST], -0.1 * velocity)
        require_close((thetas[t + 1] - thetas[t])[LAST], -0.02 * g[t, LAST])
    expected = [loss + 0.25 * float(theta[FIRST].square().sum()) for loss, theta in zip(losses, thetas, strict=False)]
    require_close(torch.from_numpy(run.training["loss"][:]), torch.tensor(expected, dtype=torch.float64))
    assert run.training["learning_rate"][:].tolist() == [0.1] * T


def test_model_is_not_frozen_after_training(tmp_path, problem):
    given = problem()
    config = lca.TrainConfig(batch_size=20, iterations=3, device="cpu", freeze=["first"])
    lca.train(given, tmp_path / "run.zarr", config)
    assert all(parameter.requires_grad for parameter in given.model.parameters())
