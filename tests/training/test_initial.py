import pytest
import torch
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.store.run import open_run
from lca.store.run_writer import RunWriter
from lca.store.schema import STATE_FILE


def recorded(path):
    return torch.from_numpy(lca.open(path).weights[:]).T


@pytest.mark.parametrize(("suffix", "iterate"), [("", 100), ("@0", 0), ("@37", 37)])
def test_run_starts_from_an_iterate_of_another_run(tmp_path, run, problem, suffix, iterate):
    config = lca.TrainConfig(batch_size=20, iterations=5, init_from=f"{run}{suffix}", device="cpu", seed=3)
    started = lca.train(problem(seed=9), tmp_path / "next.zarr", config)
    assert torch.equal(recorded(tmp_path / "next.zarr")[0], recorded(run)[iterate])
    assert started.attributes["initial"] == {"run": str(run), "iterate": iterate}


def test_missing_initial_iterate_raises(tmp_path, run, problem):
    unfinished = tmp_path / "unfinished.zarr"
    with pytest.raises(ZeroDivisionError), lca.Recorder(unfinished, problem().model):
        raise ZeroDivisionError
    for source, message in (
        (f"{run}@101", "the iterate of .*run.zarr: expected 0 to 100, found 101"),
        (f"{tmp_path}/none.zarr@3", "none.zarr does not exist"),
        (f"{unfinished}", "is unfinished, so its last iterate is not known"),
        (f"{tmp_path}/next.zarr", "next.zarr does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            lca.train(problem(), tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, init_from=source))
    other = problem(model=nn.Linear(2, 3))
    with pytest.raises(LCAError, match=r"the model does not match the model that .*run.zarr was recorded from"):
        lca.train(other, tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, init_from=str(run)))
    assert not (tmp_path / "next.zarr").exists()
    with pytest.raises(UsageError, match="cannot start from itself. Choose another path"):
        lca.train(problem(), run, lca.TrainConfig(batch_size=20, init_from=str(run)), overwrite=True)
    assert lca.open(run).n_iterations == 100


def test_source_can_have_an_at_sign_in_its_name(tmp_path, run, problem):
    run.rename(tmp_path / "run@7")
    config = lca.TrainConfig(batch_size=20, iterations=5, init_from=f"{tmp_path}/run@7", device="cpu")
    assert lca.train(problem(), tmp_path / "next.zarr", config).attributes["initial"]["iterate"] == 100


def test_resuming_from_a_state_does_not_read_the_source(tmp_path, run, problem):
    path, config = tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, iterations=5, init_from=str(run))
    lca.train(problem(), path, config)
    before = recorded(path)
    RunWriter(open_run(path, "r+")).reopen()
    run.rename(tmp_path / "elsewhere.zarr")
    lca.train(problem(), path, config, resume=True)
    assert torch.equal(recorded(path), before)


def test_resuming_starts_from_the_original_iterate_of_the_source(tmp_path, run, problem):
    """This holds even if no state has been stored yet and the source has been replaced in the meantime."""
    path, config = tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, iterations=5, init_from=str(run))
    source = RunWriter(open_run(run, "r+"))
    source.truncate(38)
    source.finish()
    lca.train(problem(), path, config)
    before = recorded(path)
    RunWriter(open_run(path, "r+")).reopen()
    (path / STATE_FILE).unlink()
    assert torch.equal(before[0], recorded(run)[37])
    lca.train(problem(), run, lca.TrainConfig(batch_size=20, iterations=50), overwrite=True)
    lca.train(problem(), path, config, resume=True)
    assert torch.equal(recorded(path)[0], recorded(run)[37])
    assert lca.open(path).attributes["initial"]["iterate"] == 37
