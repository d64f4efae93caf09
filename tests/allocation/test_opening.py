from dataclasses import replace

import pytest
import torch
from torch import nn

import lca
from lca.allocation.opening import require_same_data_everywhere
from lca.errors import LCAError, UsageError
from lca.problem.losses import cross_entropy
from lca.runtime import workers as workers_module
from lca.runtime.workers import Workers
from lca.store.allocation_writer import AllocationWriter
from lca.store.run import open_run


def test_continued_allocation_keeps_its_batch_size(run, problem, monkeypatch):
    chosen = iter([7, 11])
    monkeypatch.setattr("lca.allocation.batch_size.choose_batch_size", lambda *_: next(chosen))
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    assert lca.open(run).allocation("train").attributes["batch_size"] == 7
    lca.allocate(run, problem(), lca.AllocateConfig(batch_size=7, device="cpu"))
    with pytest.raises(UsageError, match="batch_size: stored 7, requested 8"):
        lca.allocate(run, problem(), lca.AllocateConfig(batch_size=8, device="cpu"))


def test_batchnorm_records_the_batch_size_of_the_paper(tmp_path, problem):
    torch.manual_seed(0)
    given = problem(model=nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)))
    path = tmp_path / "run.zarr"
    lca.train(given, path, lca.TrainConfig(batch_size=20, iterations=10, device="cpu"))
    buffers = {name: buffer.clone() for name, buffer in given.model.named_buffers()}
    summary = lca.allocate(path, given, lca.AllocateConfig(device="cpu"))
    attributes = lca.open(path).allocation("train").attributes
    assert (attributes["batch_size"], attributes["batchnorm"]) == (5_000, "batch statistics")
    assert summary.within_bounds
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in given.model.named_buffers())


def test_options_that_differ_from_the_stored_ones_are_refused(run, problem):
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    message = r"different options \(tolerance: stored 0.001, requested 0.01\). Pass the same problem and options, "
    with pytest.raises(UsageError, match=message + "another name, or overwrite=True to replace it."):
        lca.allocate(run, problem(), lca.AllocateConfig(tolerance=0.01, device="cpu"))
    lca.allocate(run, problem(), lca.AllocateConfig(tolerance=0.01, device="cpu"), overwrite=True)


def test_different_data_are_refused(run, problem):
    other = problem()
    other.train[0][0, 0] += 1
    with pytest.raises(
        LCAError, match="the train split of small differs from the one that .* was recorded with: expected 60 examples"
    ):
        lca.allocate(run, other)


def test_different_model_is_refused(run, problem):
    other = problem(model=nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 3)))
    with pytest.raises(LCAError, match=r"tensor 0: expected 0.weight \(8, 2\) .*, found 0.weight \(9, 2\)"):
        lca.allocate(run, other)


def test_unfinished_run_is_refused(tmp_path, problem):
    def stops(model, batch):
        if torch.is_grad_enabled():
            raise KeyboardInterrupt
        return cross_entropy(model, batch)

    with pytest.raises(KeyboardInterrupt):
        lca.train(
            lca.Problem(problem().model, stops, problem().train),
            tmp_path / "run.zarr",
            lca.TrainConfig(batch_size=20, iterations=9),
        )
    with pytest.raises(
        LCAError,
        match=r"is unfinished: expected 10 iterates, found 1. Resume it with lca.train\(problem, .*, resume=True\)",
    ):
        lca.allocate(tmp_path / "run.zarr", problem())


def test_run_without_iterations_is_refused(tmp_path, problem):
    with lca.Recorder(tmp_path / "run.zarr", problem().model):
        pass
    with pytest.raises(LCAError, match="has no iterations"):
        lca.allocate(tmp_path / "run.zarr", problem())


def test_unknown_split_is_named(run, problem):
    with pytest.raises(UsageError, match="small has no split 'test'. Its splits are train, val."):
        lca.allocate(run, problem(), lca.AllocateConfig(split="test"))


def test_process_with_different_data_is_refused():
    """Some datasets give every process only its own part of the examples."""
    store, whole = workers_module._Alone(), (torch.arange(10.0), torch.arange(10))
    one, two = Workers(store, 0, 2), Workers(store, 1, 2)
    require_same_data_everywhere(one, whole, "train")
    require_same_data_everywhere(two, tuple(x.clone() for x in whole), "train")
    for part, found in (
        (tuple(x[:5] for x in whole), r"found 5 examples\."),
        (tuple(x.flip(0) for x in whole), "found 10 examples with different values"),
    ):
        with pytest.raises(LCAError, match=f"process 1 of 2: expected the same 10 examples as in the first.*{found}"):
            require_same_data_everywhere(two, part, "train")


def test_an_allocation_is_not_continued_with_another_loss(run, problem):
    """The first of two blocks is allocated with the cross-entropy, and then the loss is doubled."""
    options = {"batch_size": 20, "audit": 0, "device": "cpu"}
    lca.allocate(run, problem(), **options)
    AllocationWriter(open_run(run, "r+").allocation("train")).undo(1)

    def double(model, batch):
        return 2 * cross_entropy(model, batch)

    other = replace(problem(), losses=double, unit="nats")
    with pytest.raises(LCAError, match="the loss is not the one that .* was recorded with: at iterate .* Pass the"):
        lca.allocate(run, other, **options)
    with pytest.raises(UsageError, match="has an allocation 'train' for another loss: at iterate .* another name"):
        lca.allocate(run, other, **options, other_loss=True)
    summary = lca.allocate(run, problem(), **options)
    assert summary.within_bounds
    doubled = lca.allocate(run, other, **options, other_loss=True, name="doubled")
    assert doubled.change == pytest.approx(2 * summary.change, rel=1e-6)
    assert any("the allocated loss is not that of the training" in remark for remark in doubled.remarks)
