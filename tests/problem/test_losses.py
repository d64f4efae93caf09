from dataclasses import replace

import pytest
import torch
from conftest import small_problem
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError
from lca.model.parameters import flatten
from lca.problem.objective import Objective

BY_CLASS = {"by_class": True, "audit": 0, "batch_size": 16, "device": "cpu"}
X, Y = torch.arange(10.0).reshape(5, 2), torch.arange(5)


def make_data(n, seed=0, shape=(5,)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator), torch.randint(3, (n,), generator=generator)


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (lambda batch: batch[0][:, 0], r"found a tensor of shape \(60,\) and dtype torch.float32"),
        (lambda batch: batch[1].numpy(), "found a ndarray"),
        (lambda batch: batch[1][:7], r"found a tensor of shape \(7,\)"),
        (lambda batch: None, "found None"),
    ],
)
def test_invalid_labels_are_reported(run, problem, groups, words):
    with pytest.raises(
        LCAError, match=rf"groups\(batch\) for a batch of 60 examples: expected one integer label per example.*{words}"
    ):
        lca.allocate(run, replace(problem(), groups=groups), lca.AllocateConfig(**BY_CLASS))


def test_mean_loss_instead_of_loss_per_example_raises():
    model = make_net()
    losses = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])
    with (
        FullGradient(Objective(model, losses, make_data(20)), 20) as full,
        pytest.raises(LCAError, match=r"for a batch of 20 examples: expected .*\(20,\), found a tensor of shape \(\)"),
    ):
        full(flatten(model))


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (lambda m, b: (m(b[0])[:, :1] - b[1]) ** 2, r"If the prediction has shape \(B, 1\) and the target"),
        (lambda m, b: m(b[0])[:, :1], r"Return losses\.squeeze\(-1\)"),
        (lambda m, b: m(b[0]), r"For one loss per token, also pass Problem\(…, weigh=…\). Otherwise return the mean"),
        (lambda m, b: m(b[0]).mean(), 'reduction="none"'),
        (lambda m, b: None, "found None"),
        (lambda m, b: m(b[0])[:, 0].detach(), "have no gradient. Compute them with the model that is passed in"),
    ],
)
def test_invalid_losses_are_reported_with_a_remedy(tmp_path, losses, words):
    given = replace(small_problem(), losses=losses)
    with pytest.raises(LCAError, match=words):
        lca.train(given, tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=2, device="cpu"))


def test_wrong_loss_shape_raises_for_dict_batches(tmp_path):
    problem = lca.Problem(nn.Linear(2, 2), lambda model, batch: model(batch["x"]).mean(), train={"x": X})
    with pytest.raises(
        LCAError, match=r"for a batch of 5 examples: expected one loss per example, shape \(5,\), found"
    ):
        lca.train(problem, tmp_path / "run.zarr", lca.TrainConfig(batch_size=4, iterations=1, device="cpu"))
