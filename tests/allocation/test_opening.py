import pytest
import torch
from torch import nn

import lca
from lca.allocation.opening import require_same_data_everywhere
from lca.errors import LCAError, UsageError
from lca.runtime import workers as workers_module
from lca.runtime.workers import Workers


def test_the_batch_size_is_chosen_once(run, problem, monkeypatch):
    chosen = iter([7, 11])
    monkeypatch.setattr("lca.allocation.batch_size.choose_batch_size", lambda *_: next(chosen))
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    assert lca.open(run).allocation("train").attributes["batch_size"] == 7
    lca.allocate(run, problem(), lca.AllocateConfig(batch_size=7, device="cpu"))
    with pytest.raises(UsageError, match="batch_size: stored 7, requested 8"):
        lca.allocate(run, problem(), lca.AllocateConfig(batch_size=8, device="cpu"))


def test_with_batchnorm_the_batch_size_is_the_papers_and_recorded(tmp_path, problem):
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


def test_other_options_than_those_of_the_store_are_refused(run, problem):
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    message = r"other options \(tolerance: stored 0.001, requested 0.01\). Pass the same options, another name, or "
    with pytest.raises(UsageError, match=message + "overwrite=True to replace it."):
        lca.allocate(run, problem(), lca.AllocateConfig(tolerance=0.01, device="cpu"))
    lca.allocate(run, problem(), lca.AllocateConfig(tolerance=0.01, device="cpu"), overwrite=True)


def test_other_data_are_refused(run, problem):
    other = problem()
    other.train[0][0, 0] += 1
    with pytest.raises(
        LCAError, match="the train split of small is not the one that .* was recorded with: expected 60 examples"
    ):
        lca.allocate(run, other)


def test_another_model_is_refused(run, problem):
    other = problem(model=nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 3)))
    with pytest.raises(LCAError, match=r"parameter 0: expected 0.weight \(8, 2\) .*, found 0.weight \(9, 2\)"):
        lca.allocate(run, other)


def test_an_unfinished_run_is_refused(tmp_path, problem):
    stops = lambda model, batch: (_ for _ in ()).throw(KeyboardInterrupt)
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


def test_a_run_without_iterations_is_refused(tmp_path, problem):
    with lca.Recorder(tmp_path / "run.zarr", problem().model):
        pass
    with pytest.raises(LCAError, match="holds no iteration"):
        lca.allocate(tmp_path / "run.zarr", problem())


def test_an_unknown_split_is_named(run, problem):
    with pytest.raises(UsageError, match="small has no split 'test'. Its splits are train, val."):
        lca.allocate(run, problem(), lca.AllocateConfig(split="test"))


def test_every_process_has_to_have_the_whole_split():
    """Not a part of its own, as a data set may give it that shares itself out."""
    store, whole = workers_module._Alone(), (torch.arange(10.0), torch.arange(10))
    one, two = Workers(store, 0, 2), Workers(store, 1, 2)
    require_same_data_everywhere(one, whole)
    require_same_data_everywhere(two, tuple(x.clone() for x in whole))
    for part in (tuple(x[:5] for x in whole), tuple(x.flip(0) for x in whole)):
        found = f"found {len(part[0])} examples"
        with pytest.raises(LCAError, match=f"process 1 of 2: expected the 10 examples of the first process, {found}"):
            require_same_data_everywhere(two, part)
