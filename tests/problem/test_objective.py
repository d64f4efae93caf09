from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

import lca
from lca.errors import UsageError
from lca.problem import objective as split_module
from lca.problem.objective import Split, move_to_device, prepare
from lca.problem.sampling import draw_stratified, estimate_standard_error

CPU = torch.device("cpu")


def test_a_subset_has_the_classes_in_proportion():
    labels = np.repeat([7, 3, 9], [50, 30, 20])
    index = draw_stratified(labels, 10, seed=0)
    assert [int((labels[index] == label).sum()) for label in (7, 3, 9)] == [5, 3, 2]
    assert (np.diff(index) > 0).all()
    assert np.array_equal(index, draw_stratified(labels, 10, seed=0))
    assert not np.array_equal(index, draw_stratified(labels, 10, seed=1))


def test_what_does_not_divide_goes_to_the_largest_rests():
    labels = np.repeat([0, 1, 2], [46, 30, 24])  # shares of 7: 3.22, 2.1, 1.68
    index = draw_stratified(labels, 7, seed=3)
    assert [int((labels[index] == c).sum()) for c in range(3)] == [3, 2, 2]
    assert len(draw_stratified(labels, 100, seed=0)) == 100


def test_every_example_is_as_likely():
    counts = sum(np.bincount(draw_stratified(np.repeat([0, 1], 4), 4, seed), minlength=8) for seed in range(400))
    assert counts.sum() == 1600
    assert (abs(counts - 200) < 50).all()  # five standard deviations of a binomial


def test_the_standard_error_is_right_on_average_over_all_samples():
    """Over all stratified samples of a small population, the mean squared error told is the variance of the mean."""
    generator = np.random.default_rng(0)
    strata = [generator.normal(0, 1, 4), generator.normal(5, 3, 6)]
    told, means = [], []
    for a, b in product(combinations(range(4), 2), combinations(range(6), 3)):
        losses = np.concatenate([strata[0][list(a)], strata[1][list(b)]])
        labels = np.repeat([0, 1], [2, 3])
        part = Split((torch.zeros(5),), None, None, None, [0, 1], labels, {0: 4, 1: 6})
        told.append(estimate_standard_error(losses, np.ones(5), part) ** 2)
        means.append(losses.mean())
    assert np.mean(told) == pytest.approx(np.var(means), rel=1e-12)


def test_a_whole_split_has_no_sampling_error():
    part = Split((torch.zeros(3),), None, None, None, [0], np.zeros(3, int), {0: 3})
    assert estimate_standard_error(np.array([1.0, 2.0, 5.0]), np.ones(3), part) == 0


def test_bytes_are_scaled_at_once_where_that_fits(monkeypatch):
    data = (torch.arange(12, dtype=torch.uint8).view(4, 3), torch.arange(4))
    scale = lambda batch: (batch[0].float() / 2, batch[1])
    (images, labels), left = move_to_device(data, scale, CPU)
    assert left is None
    assert torch.equal(images, torch.arange(12.0).view(4, 3) / 2)
    assert torch.equal(labels, data[1])
    monkeypatch.setattr(split_module, "memory", lambda device: 4 * (4 * 12 + 8 * 4) - 1)
    kept, left = move_to_device(data, scale, CPU)
    assert left is scale
    assert torch.equal(kept[0], data[0])
    monkeypatch.setattr(split_module, "memory", lambda device: 4 * (4 * 12 + 8 * 4))
    assert move_to_device(data, scale, CPU)[1] is None


def test_scaling_by_batch_gives_the_same_allocation(tmp_path, monkeypatch):
    path, problem = tmp_path / "run.zarr", lca.load("digits-fc")
    lca.train(problem, path, lca.TrainConfig(iterations=5, device="cpu"))
    config = lca.AllocateConfig(batch_size=500, device="cpu")
    lca.allocate(path, problem, config)
    monkeypatch.setattr(split_module, "SCALED_SHARE", 0.0)
    lca.allocate(path, problem, replace(config, name="bytes"))
    at_once, by_batch = (lca.open(path).allocation(name).lca[:] for name in ("train", "bytes"))
    np.testing.assert_array_equal(at_once, by_batch)
    lca.train(lca.load("digits-fc"), tmp_path / "again.zarr", lca.TrainConfig(iterations=5, device="cpu"))
    np.testing.assert_array_equal(lca.open(path).weights[:], lca.open(tmp_path / "again.zarr").weights[:])


def test_a_subset_is_allocated_as_if_it_were_all(run, problem):
    given = replace(problem(), groups=lambda batch: batch[1])
    summary = lca.allocate(run, given, lca.AllocateConfig(name="some", examples=21, seed=4, device="cpu", batch_size=8))
    some = prepare(given, "train", CPU, n_examples=21, seed=4)
    model, (x, y) = problem().model, some.data
    assert torch.bincount(y).tolist() == [7, 7, 7]
    weights = torch.from_numpy(lca.open(run).weights[:])
    losses = []
    for t in (0, 100):
        torch.nn.utils.vector_to_parameters(weights[:, t], model.parameters())
        losses.append(torch.nn.functional.cross_entropy(model(x), y, reduction="none").detach().double().numpy())
    assert summary.loss_start == pytest.approx(losses[0].mean(), rel=1e-6)
    assert summary.loss_end == pytest.approx(losses[1].mean(), rel=1e-6)
    assert (summary.examples, summary.examples_in_split) == (21, 60)
    variances = [np.var(losses[1][y.numpy() == c], ddof=1) for c in range(3)]
    expected = np.sqrt(sum((1 / 3) ** 2 * (1 - 7 / 20) * v / 7 for v in variances))
    assert summary.standard_error["end"] == pytest.approx(expected, rel=1e-5)
    attributes = lca.open(run).allocation("some").attributes
    assert (attributes["examples"], attributes["examples_in_split"], attributes["seed"]) == (21, 60, 4)


def test_without_groups_a_subset_is_drawn_from_all_alike(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(examples=20, device="cpu", batch_size=20))
    assert summary.standard_error["start"] > 0


def test_more_examples_than_there_are(run, problem):
    with pytest.raises(UsageError, match="61 examples were asked for; the train split of small has 60"):
        lca.allocate(run, problem(), lca.AllocateConfig(examples=61, device="cpu"))
