"""Names become parts of paths, so a wrong one could lead to data that it must not reach."""

import numpy as np
import pytest
from shell import call

import lca
from lca.errors import UsageError
from lca.store.names import require_name
from lca.store.run import open_run
from lca.store.run_writer import RunWriter

BAD = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "train\\lca",
    "a b",
    "-x",
    ".hidden",
    "x" * 65,
    "a\n",
    "ä",
    "a:b",
    "a.",
]


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


@pytest.mark.parametrize("name", ["nul", "AUX", "con.2", "com1", "Lpt9.a.b"])
def test_names_of_devices_of_windows_are_refused(run, problem, name):
    with pytest.raises(UsageError, match=f"name: expected a name that Windows does not reserve .*found '{name}'"):
        lca.allocate(run, problem(), name=name, device="cpu")
    for similar in (f"x{name}", f"x.{name}", f"{name[:2]}.{name}"):
        require_name("name", similar)


def test_names_that_differ_only_in_case_are_refused_and_replace_nothing(run, problem, tmp_path):
    """On macOS and Windows, both would be the same folder."""
    lca.allocate(run, problem(), device="cpu", audit=0)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="expected a name that differs from 'train' in more than .*found 'Train'"):
        lca.allocate(run, problem(), name="Train", device="cpu", audit=0)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and "lock" not in path.name}
    assert after == {path: before[path] for path in after}
    with (
        pytest.raises(UsageError, match="training scalar: expected a name that differs from 'LOSS' .*found 'loss'"),
        lca.Recorder(tmp_path / "other.zarr", problem().model) as recorder,
    ):
        recorder.record(loss=1.0)
        recorder.record(LOSS=1.0)


def test_an_empty_name_is_refused_in_the_shell(run):
    assert "name: expected 1 to 64 letters" in call("allocate", run, "--name", "", status=2).stderr


def test_scalars_with_such_names_are_refused(tmp_path, problem):
    model = problem().model
    with (
        pytest.raises(UsageError, match="name of a training scalar: expected .* found 'train/loss'"),
        lca.Recorder(tmp_path / "run.zarr", model) as recorder,
    ):
        recorder.log(**{"train/loss": 1.0})
