from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_problem

import lca
from lca.allocation.full_gradient import FullGradient
from lca.errors import UsageError
from lca.model.parameters import flatten
from lca.problem import objective as objective_module
from lca.problem.batches import get_tensors
from lca.problem.objective import Objective, move_to_device, prepare

BY_CLASS = {"by_class": True, "audit": 0, "batch_size": 16, "device": "cpu"}


CPU = torch.device("cpu")


def test_too_many_classes_raise(run, problem):
    given = replace(problem(), groups=lambda batch: torch.arange(60))
    lca.allocate(run, given, lca.AllocateConfig(**BY_CLASS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lca.problem.objective.MAX_CLASSES", 59)
        with pytest.raises(
            UsageError, match="the number of classes of small: expected at most 59, found 60. .* leave out by_class"
        ):
            lca.allocate(run, given, lca.AllocateConfig(**BY_CLASS, name="other"))
    assert lca.open(run).allocations == ["train"]


def test_by_class_requires_groups(run, problem):
    with pytest.raises(UsageError, match="small has no groups by which .* Pass .* or leave out by_class"):
        lca.allocate(run, problem(), lca.AllocateConfig(**BY_CLASS))


def test_data_are_scaled_at_once_if_the_result_fits(monkeypatch):
    data = (torch.arange(12, dtype=torch.uint8).view(4, 3), torch.arange(4))
    scale = lambda batch: (batch[0].float() / 2, batch[1])
    (images, labels), left = move_to_device(data, scale, CPU)
    assert left is None
    assert torch.equal(images, torch.arange(12.0).view(4, 3) / 2)
    assert torch.equal(labels, data[1])
    monkeypatch.setattr(objective_module, "get_memory_bytes", lambda device: 4 * (4 * 12 + 8 * 4) - 1)
    kept, left = move_to_device(data, scale, CPU)
    assert left is scale
    assert torch.equal(kept[0], data[0])
    monkeypatch.setattr(objective_module, "get_memory_bytes", lambda device: 4 * (4 * 12 + 8 * 4))
    assert move_to_device(data, scale, CPU)[1] is None


def test_scaling_by_batch_gives_the_same_allocation(tmp_path, monkeypatch):
    path, problem = tmp_path / "run.zarr", lca.load("digits-fc")
    lca.train(problem, path, lca.TrainConfig(iterations=5, device="cpu"))
    config = lca.AllocateConfig(batch_size=500, device="cpu")
    lca.allocate(path, problem, config)
    monkeypatch.setattr(objective_module, "SCALED_SHARE", 0.0)
    lca.allocate(path, problem, replace(config, name="bytes"))
    at_once, by_batch = (lca.open(path).allocation(name).lca[:] for name in ("train", "bytes"))
    np.testing.assert_array_equal(at_once, by_batch)
    lca.train(lca.load("digits-fc"), tmp_path / "again.zarr", lca.TrainConfig(iterations=5, device="cpu"))
    np.testing.assert_array_equal(lca.open(path).weights[:], lca.open(tmp_path / "again.zarr").weights[:])


def test_allocation_of_a_subset_equals_its_mean_loss(run, problem):
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


def test_subset_without_groups_is_drawn_uniformly(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(examples=20, device="cpu", batch_size=20))
    assert summary.standard_error["start"] > 0


def test_subset_larger_than_the_split_raises(run, problem):
    with pytest.raises(UsageError, match="examples: expected 1 to 60, the size of the train split of small, found 61"):
        lca.allocate(run, problem(), lca.AllocateConfig(examples=61, device="cpu"))


@pytest.mark.cuda
def test_split_that_does_not_fit_on_the_device_stays_on_the_host(monkeypatch):
    given = small_problem()
    device = torch.device("cuda")
    given.model.to(device)
    theta = flatten(given.model)
    with FullGradient(Objective(given.model, given.losses, prepare(given, "train", device).data), 16) as full:
        expected = full(theta)
    monkeypatch.setattr("lca.problem.objective.get_memory_bytes", lambda device: 0)
    split = prepare(given, "train", device)
    assert all(x.device.type == "cpu" for x in get_tensors(split.data))
    with FullGradient(Objective(given.model, given.losses, split.data), 16) as full:
        found = full(theta)
    assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-6)
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-4, atol=1e-6)
