"""Names become parts of paths, so a wrong one could lead to data that it must not reach."""

import numpy as np
import pytest
from shell import call

import lca
from lca.errors import UsageError
from lca.store.names import require_name
from lca.store.run import open_run
from lca.store.run_writer import RunWriter

BAD = ["", ".", "..", "../x", "a/b", "train\\lca", "a b", "-x", ".hidden", "x" * 65, "a\n", "ä", "a:b"]


@pytest.mark.parametrize("name", ["train", "0", "by-class_2.5", "x" * 64])
def test_ordinary_names_are_allowed(name):
    require_name("name", name)


@pytest.mark.parametrize("name", BAD)
def test_names_that_reach_elsewhere_are_refused_and_delete_nothing(run, problem, name):
    lca.allocate(run, problem(), device="cpu", audit=0)
    before = np.asarray(lca.open(run).allocation("train").lca[:])
    with pytest.raises(UsageError, match="name: expected 1 to 64 letters, digits"):
        lca.allocate(run, problem(), name=name, overwrite=True, device="cpu")
    with pytest.raises(UsageError, match="name of an allocation: expected 1 to 64 letters"):
        RunWriter(open_run(run, "r+")).create_allocation(name, {})
    assert np.array_equal(np.asarray(lca.open(run).allocation("train").lca[:]), before)
    assert lca.verify(run).is_sound


def test_an_empty_name_is_refused_in_the_shell(run):
    assert "name: expected 1 to 64 letters" in call("allocate", run, "--name", "", status=2).stderr


def test_scalars_with_such_names_are_refused(tmp_path, problem):
    model = problem().model
    with (
        pytest.raises(UsageError, match="name of a training scalar: expected .* found 'train/loss'"),
        lca.Recorder(tmp_path / "run.zarr", model) as recorder,
    ):
        recorder.log(**{"train/loss": 1.0})
