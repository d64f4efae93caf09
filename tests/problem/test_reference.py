"""The reference loss shows whether L is still the loss of the training."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import small_problem
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.problem.losses import cross_entropy
from lca.problem.reference import N_EXAMPLES, compute_reference_loss, measure_batch_dependence
from lca.training.batch_order import draw_indices

CPU = {"device": "cpu", "audit": 0}
TRAIN = lca.TrainConfig(batch_size=20, iterations=30, learning_rate=0.5, device="cpu")


class Temperature(nn.Module):
    """A classifier whose logits are divided by a buffer, which decreases with every training step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
        self.register_buffer("temperature", torch.tensor(2.0))

    def forward(self, x):
        if self.training:
            self.temperature *= 0.97
        return self.net(x) / self.temperature


def spectral():
    torch.manual_seed(0)
    hidden = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 8))
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(8, 3))


def record(path, given, **options):
    """Record 20 steps of a custom training loop."""
    optimizer = torch.optim.SGD(given.model.parameters(), 0.5)
    with lca.Recorder(path, given.model, **options) as recorder:
        recorder.attach(optimizer)
        for _ in range(20):
            optimizer.zero_grad()
            given.losses(given.model, given.train).mean().backward()
            optimizer.step()


def test_reference_loss_is_the_mean_over_the_first_examples():
    """The oracle is the weighted mean in evaluation mode, where dropout is off and BatchNorm uses batch statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    weigh = lambda batch: batch[1] + 1.0
    given = replace(small_problem(model=model), weigh=weigh)
    (x, y), before, state = given.train, copy.deepcopy(model.state_dict()), torch.get_rng_state()
    x, y = x[:N_EXAMPLES], y[:N_EXAMPLES]
    h = x @ model[0].weight.T + model[0].bias
    h = (h - h.mean(0)) / (h.var(0, unbiased=False) + model[1].eps).sqrt() * model[1].weight + model[1].bias
    losses = nn.functional.cross_entropy(model[3](h), y, reduction="none").detach()
    expected = (losses * weigh((x, y))).sum() / weigh((x, y)).sum()
    assert compute_reference_loss(given) == pytest.approx(float(expected), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_recording_a_random_loss_does_not_change_the_training(tmp_path):
    """If the reference loss advanced the random state, a loss that draws random numbers would train differently."""

    def noisy(model, batch):
        return cross_entropy(model, (batch[0] + 0.1 * torch.randn_like(batch[0]), batch[1]))

    given = replace(small_problem(), losses=noisy)
    run = lca.train(given, tmp_path / "run.zarr", TRAIN)
    model, (x, y) = small_problem().model, given.train
    optimizer = torch.optim.SGD(model.parameters(), TRAIN.learning_rate, TRAIN.momentum)
    torch.manual_seed(TRAIN.seed)
    for _, index in zip(range(5), draw_indices(len(x), 20, TRAIN.seed, 0, "cpu"), strict=False):
        optimizer.zero_grad()
        noisy(model, (x[index], y[index])).mean().backward()
        optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(torch.from_numpy(run.weights[:, 5]), expected)


@pytest.mark.parametrize("make", [Temperature, spectral])
def test_loss_that_depends_on_a_buffer_changed_by_training_is_refused(tmp_path, make):
    """A new model has the initial buffers, so its loss at the last iterate differs from the one in training."""
    given, path = small_problem(model=make()), tmp_path / "run.zarr"
    lca.train(given, path, TRAIN)
    fresh = small_problem(model=make())
    message = "the loss depends on the buffers? .*, which training changed, .* iterate 30, .* Pass the model with its"
    for function in (lca.check, lca.allocate):
        with pytest.raises(LCAError, match=message):
            function(path, fresh, **CPU)
    assert lca.open(path).allocations == []
    remarks = lca.check(path, given, **CPU).remarks  # the trained model has the final buffers
    assert "The allocated loss is computed with the final values." in remarks[0]
    assert "at iterate 0, the loss of the first training examples was" in remarks[1]
    assert lca.allocate(path, given, **CPU).within_bounds
    _, start = lca.check(path, fresh, **CPU, other_loss=True).remarks
    assert "at iterate 30" in start


def test_buffers_on_which_the_loss_does_not_depend_are_not_mentioned(tmp_path):
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(2, 3)
            self.register_buffer("n", torch.zeros(()))

        def forward(self, x):
            self.n += self.training
            return super().forward(x)

    torch.manual_seed(0)
    given, path = small_problem(model=Counting()), tmp_path / "run.zarr"
    lca.train(given, path, TRAIN)
    for model in (given.model, Counting()):
        assert lca.check(path, small_problem(model=model), **CPU).notes == []


def test_another_loss_or_model_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "run.zarr"
    lca.train(small_problem(), path, TRAIN)
    smoothed = lambda model, batch: nn.functional.cross_entropy(
        model(batch[0]), batch[1], reduction="none", label_smoothing=0.1
    )
    relu = small_problem()
    for module in relu.model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.Tanh):
                setattr(module, name, nn.GELU())
    for other in (replace(small_problem(), losses=smoothed), relu):
        with pytest.raises(LCAError, match="the loss is not the one that .* was recorded with: at iterate") as error:
            lca.allocate(path, other, **CPU)
        assert "other_loss=True" in str(error.value)
    assert lca.allocate(path, small_problem(), **CPU).complete
    with pytest.raises(LCAError, match="the loss is not the one"):
        lca.allocate(path, relu, **CPU)  # although there is nothing left to compute
    with pytest.raises(LCAError, match="the loss is not the one"):
        lca.analysis.prune(path, lca.Evaluator(relu, device="cpu"))


def test_recorder_with_a_problem_stores_reference_losses(tmp_path):
    given = small_problem(model=Temperature())
    start = compute_reference_loss(given)
    record(tmp_path / "run.zarr", given, problem=given)
    attributes = lca.open(tmp_path / "run.zarr").attributes
    assert attributes["reference"] == {"start": start, "end": compute_reference_loss(given)}
    assert set(attributes["splits"]) == set(given.splits)
    with pytest.raises(LCAError, match="the loss depends on the buffer temperature, which training changed"):
        lca.allocate(tmp_path / "run.zarr", small_problem(model=Temperature()), **CPU)


def test_recorder_refuses_a_problem_with_another_model(tmp_path):
    with pytest.raises(UsageError, match="expected a problem with the recorded model, found another Temperature"):
        lca.Recorder(tmp_path / "run.zarr", small_problem().model, problem=small_problem(model=Temperature()))


def test_parameters_changed_after_the_last_step_are_not_taken_for_the_last_iterate(tmp_path):
    given = small_problem()
    with lca.Recorder(tmp_path / "run.zarr", given.model, problem=given) as recorder:
        recorder.record()
        with torch.no_grad():
            next(given.model.parameters()).mul_(3)  # as if averaged weights were loaded
    assert "end" not in lca.open(tmp_path / "run.zarr").attributes["reference"]
    assert lca.allocate(tmp_path / "run.zarr", small_problem(), **CPU).complete


def contrastive(model, batch):
    """InfoNCE between two views: each example is contrasted with all others in its batch."""
    a, b = nn.functional.normalize(model(batch[0])), nn.functional.normalize(model(batch[0] + 0.1))
    return nn.functional.cross_entropy(a @ b.T / 0.5, torch.arange(len(a)), reduction="none")


def divided(model, batch):
    """Losses that are divided by the batch size, so that their sum is the mean."""
    return cross_entropy(model, batch) / len(batch[1])


@pytest.mark.parametrize("losses", [contrastive, divided])
def test_batch_size_is_fixed_if_the_loss_depends_on_it(tmp_path, losses, monkeypatch):
    """The batch size is not chosen for speed. With `by_class`, batches mix the classes as they do without it."""
    monkeypatch.setattr("lca.allocation.batch_size.choose_batch_size", lambda *_: pytest.fail("chosen for speed"))
    given = replace(small_problem(), losses=losses, groups=lambda batch: batch[1])
    assert measure_batch_dependence(given, "train") > 0.01
    lca.train(given, tmp_path / "run.zarr", TRAIN)
    plain = lca.allocate(tmp_path / "run.zarr", given, **CPU)
    (remark,) = plain.remarks
    assert "depends on the rest of its batch" in remark
    assert "so L depends on the batch size, here 5,000" in remark
    assert lca.open(tmp_path / "run.zarr").allocation("train").attributes["batch_size"] == 5_000
    by_class = lca.allocate(tmp_path / "run.zarr", given, **CPU, by_class=True, name="by-class")
    assert by_class.change == pytest.approx(plain.change, rel=1e-6)
    with torch.no_grad():
        expected = losses(given.model, given.train).mean()
    assert plain.loss_end == pytest.approx(float(expected), rel=1e-5)


def test_ordinary_losses_do_not_depend_on_the_batch():
    assert measure_batch_dependence(small_problem(), "train") < 1e-5


def test_batchnorm_in_eval_mode_gives_a_remark(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    given = small_problem(model=model)
    record(tmp_path / "train.zarr", given)
    assert lca.check(tmp_path / "train.zarr", given, **CPU).remarks == []
    model[1].eval()
    record(tmp_path / "eval.zarr", given)
    (remark,) = lca.check(tmp_path / "eval.zarr", given, **CPU).remarks
    assert remark.startswith("training used the running statistics of 1 BatchNorm module in eval mode (first: 1).")
