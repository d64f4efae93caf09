"""The LCA by class, compared with the brute-force integral of each class's share of the loss."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.problem.objective import Objective, prepare
from lca.store.allocation_writer import AllocationWriter

BY_CLASS = {"by_class": True, "audit": 0, "batch_size": 16, "device": "cpu"}


class Counting(nn.Module):
    """Wraps a network and counts its forward passes."""

    def __init__(self, net):
        super().__init__()
        self.net, self.n = net, 0

    def forward(self, x):
        self.n += 1
        return self.net(x)


def make_net(middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), middle, nn.Tanh(), nn.Linear(6, 3))


def make_uneven_problem(problem, model):
    """Make a problem with classes of 20, 13 and 20 examples, whose groups are numbered 5, 15 and 25."""
    given = problem(model=model)
    x, y = given.train
    keep = (y != 1) | (torch.arange(len(y)) < 40)
    return replace(given, train=(x[keep], y[keep]), groups=lambda batch: 10 * batch[1] + 5)


def record(tmp_path, given, iterations=12):
    path = tmp_path / "run.zarr"
    lca.train(given, path, lca.TrainConfig(batch_size=20, iterations=iterations, learning_rate=0.3, device="cpu"))
    return path


def integrate_by_brute_force(given, theta0, theta1, batches, n=300):
    """Allocate L_c = (1/N) Σ ℓ over the examples of class c by the float64 midpoint rule. Returns (class, tensor)."""
    model, (x, y) = copy.deepcopy(given.model).double().train(), given.train
    parameters = list(model.parameters())
    sizes = [p.numel() for p in parameters]
    result = np.zeros((3, len(parameters)))
    for s in (np.arange(n) + 0.5) / n:
        torch.nn.utils.vector_to_parameters(torch.lerp(theta0, theta1, float(s)), parameters)
        losses = torch.cat([nn.functional.cross_entropy(model(x[b].double()), y[b], reduction="none") for b in batches])
        labels = torch.cat([y[b] for b in batches])
        for c in range(3):
            gradients = torch.autograd.grad(losses[labels == c].sum() / len(x), parameters, retain_graph=True)
            steps = (theta1 - theta0).split(sizes)
            result[c] += [float((g.reshape(-1) * d).sum()) / n for g, d in zip(gradients, steps, strict=True)]
    return result


@pytest.mark.parametrize("batchnorm", [False, True])
def test_each_class_agrees_with_brute_force(tmp_path, problem, batchnorm):
    given = make_uneven_problem(problem, make_net(nn.BatchNorm1d(6) if batchnorm else nn.Identity()))
    path = record(tmp_path, given)
    lca.allocate(path, given, lca.AllocateConfig(**BY_CLASS))
    run = lca.open(path)
    allocation, weights = run.allocation("train"), torch.from_numpy(run.weights[:]).double()
    assert allocation.attributes["classes"] == [5, 15, 25]
    stored = allocation.class_lca[:]
    assert stored.shape == (12, 3, len(run.parameters))
    np.testing.assert_allclose(stored.sum(1), allocation.tensor_lca[:], atol=1e-8)
    in_index_order = torch.arange(len(given.train[0])).split(16)
    for t in (0, 5, 11):
        expected = integrate_by_brute_force(given, weights[:, t], weights[:, t + 1], in_index_order)
        assert np.abs(stored[t] - expected).sum() < 0.01 * np.abs(expected).sum()


def test_classes_need_no_extra_pass_and_with_batchnorm_no_extra_forward_pass(tmp_path, problem):
    for middle, batches in (
        (nn.Identity(), 2 + 1 + 2),
        (nn.BatchNorm1d(6), 4),
    ):  # batches of 16 examples of one class, or of all
        model = Counting(make_net(middle))
        given = make_uneven_problem(problem, model)
        objective = prepare(given, "train", torch.device("cpu"), by_class=True)
        with FullGradient(objective, 16) as gradient:
            gradient(gradient.theta, torch.ones(gradient.table.size))
        assert (model.n, gradient.n_passes) == (batches, 1)


def test_order_of_the_examples_does_not_change_the_slopes(problem):
    """Examples sorted by class take one backward pass per batch, others one for each class in the batch."""
    given = problem(model=make_net(nn.Identity()))
    x, y = given.train
    slopes = []
    for order in (torch.argsort(y, stable=True), torch.arange(len(y))):
        data = x[order], y[order]
        with FullGradient(Objective(given.model, given.losses, data, groups=lambda batch: batch[1]), 16) as gradient:
            slopes.append(gradient(gradient.theta, torch.ones(gradient.table.size)).slopes)
    assert slopes[0].abs().min() > 0
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-7)


def test_slice_and_resumed_allocation_equal_the_whole_allocation(tmp_path, problem, monkeypatch):
    """Every iteration needs the slopes along its own step at both ends, however it is reached."""
    given = make_uneven_problem(problem, make_net(nn.Identity()))
    path = record(tmp_path, given, iterations=70)
    lca.allocate(path, given, lca.AllocateConfig(**BY_CLASS))
    whole = lca.open(path).allocation("train").class_lca[:]
    lca.allocate(path, given, lca.AllocateConfig(**BY_CLASS, name="part", iterations="2:70:3"))
    part = lca.open(path).allocation("part").class_lca[:]
    np.testing.assert_array_equal(part[2::3], whole[2::3])
    assert np.isnan(part[0:2]).all()
    AllocationWriter(lca.open(path, "r+").allocation("train")).undo(1)
    lca.allocate(path, given, lca.AllocateConfig(**BY_CLASS))
    np.testing.assert_array_equal(lca.open(path).allocation("train").class_lca[:], whole)


def test_refinement_includes_the_lca_by_class(tmp_path, problem):
    given = make_uneven_problem(problem, make_net(nn.Identity()))
    path = tmp_path / "run.zarr"
    lca.train(given, path, lca.TrainConfig(batch_size=20, iterations=12, learning_rate=3.0, device="cpu"))
    summary = lca.allocate(path, given, lca.AllocateConfig(**BY_CLASS, tolerance=1e-5, total_tolerance=1e-5))
    assert summary.refined > 0
    allocation = lca.open(path).allocation("train")
    np.testing.assert_allclose(allocation.class_lca[:].sum(1), allocation.tensor_lca[:], atol=1e-7)
