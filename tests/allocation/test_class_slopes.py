"""The LCA by class, compared with the brute-force integral of each class's share of the loss."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.allocation import class_slopes
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
    """Batches of sorted examples hold a single class. Others are divided by class."""
    given = problem(model=make_net(nn.Identity()))
    x, y = given.train
    slopes, n_rows = [], []

    def count(model, inputs, outputs):
        outputs.register_hook(lambda gradient: n_rows.append(len(gradient)))

    given.model.register_forward_hook(count)
    for order in (torch.argsort(y, stable=True), torch.arange(len(y))):
        data = x[order], y[order]
        with FullGradient(Objective(given.model, given.losses, data, groups=lambda batch: batch[1]), 16) as gradient:
            slopes.append(gradient(gradient.theta, torch.ones(gradient.table.size)).slopes)
    assert slopes[0].abs().min() > 0
    assert sum(n_rows) == 2 * len(y)  # no example goes through a backward pass twice
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


class Tagger(nn.Module):
    """A network with a loss per token, a tied matrix, a frozen one, attention and a parameter without effect."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.out.weight = self.embedding.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, tokens):
        x = self.frozen(self.embedding(tokens))
        return self.out(x + nn.functional.scaled_dot_product_attention(x, x, x).tanh())


def compute_token_losses(model, batch):
    return nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten(), reduction="none").view(-1, 5)


def make_token_objective():
    """Make an objective of 23 examples of 5 weighted tokens, whose groups are 0 to 6 except in the last batches."""
    torch.manual_seed(1)
    tokens, following = torch.randint(7, (23, 5)), torch.randint(7, (23, 5))
    following[10:] %= 4
    return Objective(
        Tagger().double(),
        compute_token_losses,
        (tokens, following),
        weigh=lambda batch: 1.0 + batch[0].double(),
        groups=lambda batch: batch[1],
        classes=list(range(7)),
    )


def make_image_objective(middle):
    """Make an objective of 23 weighted images with 5 classes, of which the last batches of 10 hold two."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), middle, nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))
    x, y = torch.randn(23, 1, 4, 4, dtype=torch.float64), torch.arange(23) % 5
    y[10:] %= 2
    return Objective(
        model.double(),
        lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none"),
        (x, y),
        weigh=lambda batch: 1.0 + batch[1].double(),
        groups=lambda batch: batch[1],
        classes=list(range(5)),
    )


def compute_slopes_by_brute_force(objective, batch_size, directions):
    """Differentiate each class's share of the loss by itself; returns the gradient (K,) and the slopes."""
    model = copy.deepcopy(objective.model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    sizes = [p.numel() for p in parameters]
    n_classes = len(objective.classes)
    gradients = torch.zeros(n_classes, sum(sizes), dtype=torch.float64)
    weights = objective.weigh(objective.data)
    for c in range(n_classes):
        for rows in torch.arange(len(weights)).split(batch_size):
            batch = tuple(x[rows] for x in objective.data)
            chosen = torch.where(batch[1] == c, weights[rows], 0) / weights.sum()
            loss = (objective.losses(model, batch) * chosen).sum()
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            gradients[c] += torch.cat(
                [torch.zeros(n) if g is None else g.flatten() for g, n in zip(found, sizes, strict=True)]
            )
    products = torch.stack(directions)[:, None] * gradients
    return gradients.sum(0), torch.stack([part.sum(-1) for part in products.split(sizes, -1)], -1)


@pytest.mark.parametrize("by_tensor", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        make_token_objective,
        lambda: make_image_objective(nn.Identity()),
        lambda: make_image_objective(nn.BatchNorm2d(3)),
    ],
    ids=["tokens", "images", "batchnorm"],
)
def test_slopes_along_both_directions_agree_with_brute_force(make, by_tensor, monkeypatch):
    monkeypatch.setattr(class_slopes, "CLASSES_PER_TENSOR", 0 if by_tensor else 100)
    objective = make()
    used = count_calls(monkeypatch, "add_by_tensor")
    with FullGradient(objective, 10) as gradient:
        theta = gradient.theta.clone()
        directions = [torch.randn(len(theta), dtype=torch.float64) for _ in range(2)]
        gradient(theta + 1, *directions)  # leaves nothing behind
        used.clear()
        found = gradient(theta, *directions)
        alone = gradient(theta, directions[1]).slopes
    expected = compute_slopes_by_brute_force(objective, 10, directions)
    assert len(used) == (6 if by_tensor and (objective.mixes_examples or objective.data[1].ndim > 1) else 0)
    torch.testing.assert_close(found.gradient, expected[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.slopes, expected[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(alone, expected[1][1], rtol=1e-9, atol=1e-12)


def count_calls(monkeypatch, name):
    """Return a list that grows by one element with every call of a method of ClassSlopes."""
    calls, method = [], getattr(class_slopes.ClassSlopes, name)

    def count(self, *arguments):
        calls.append(name)
        return method(self, *arguments)

    monkeypatch.setattr(class_slopes.ClassSlopes, name, count)
    return calls


def test_method_depends_on_the_classes_in_a_batch(monkeypatch):
    """With 3 tensors, 7 classes are enough for the method by tensor. The 4 classes of the last two batches are not."""
    monkeypatch.setattr(class_slopes, "CLASSES_PER_TENSOR", 1.5)
    objective = make_token_objective()
    by_tensor, by_class = count_calls(monkeypatch, "add_by_tensor"), count_calls(monkeypatch, "move")
    with FullGradient(objective, 10) as gradient:
        gradient(gradient.theta)
    assert (len(gradient.table), len(by_tensor), len(by_class)) == (3, 1, 4 + 4)


class Wrong(torch.autograd.Function):
    """The square, whose backward pass has no gradient with respect to its own input."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        return (2 * ctx.x * gradient).detach() + 0 * gradient


class Once(Wrong):
    """The square, whose backward pass cannot be differentiated."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.x * gradient


class Square(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


@pytest.mark.parametrize("function", [Wrong, Once])
def test_operations_without_a_second_derivative_take_one_pass_per_class(function, monkeypatch):
    monkeypatch.setattr(class_slopes, "CLASSES_PER_TENSOR", 0)
    objective = make_image_objective(nn.Sequential(nn.BatchNorm2d(3), Square(function)))
    with FullGradient(objective, 10) as gradient:
        theta = gradient.theta.clone()
        directions = [torch.ones(len(theta), dtype=torch.float64)] * 2
        found = gradient(theta, *directions)
    torch.testing.assert_close(found.slopes, compute_slopes_by_brute_force(objective, 10, directions)[1])


def test_method_by_tensor_must_fit_in_memory(monkeypatch):
    monkeypatch.setattr(class_slopes, "CLASSES_PER_TENSOR", 0)
    chosen = []
    for n_bytes in (10**9, 10**3):
        monkeypatch.setattr(class_slopes, "get_memory_bytes", lambda device, n_bytes=n_bytes: n_bytes)
        with FullGradient(make_image_objective(nn.BatchNorm2d(3)), 10) as gradient:
            chosen.append(gradient.by_class.differentiates_by_tensor(5))
    assert chosen == [True, False]
