"""Links in a store must not lead out of it, and reading a pipe must not wait forever."""

import os
import shutil

import pytest
from shell import call

import lca
from lca.errors import LCAError
from lca.store.allocation_writer import AllocationWriter
from lca.store.run import open_run
from lca.store.run_writer import RunWriter

ALLOCATE = {"device": "cpu", "audit": 0}


@pytest.fixture
def precious(tmp_path):
    """A folder outside the store."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").write_text("precious")
    return folder


@pytest.mark.parametrize("name", ["weights/lock", "weights/lock-train", "weights/state.pt", "zarr.json"])
def test_file_that_is_a_link_is_refused_and_its_target_kept(run, problem, precious, name):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(precious / "file")
    train = lca.TrainConfig(batch_size=20, iterations=100, learning_rate=0.1, device="cpu")
    for action in (
        lambda: lca.allocate(run, problem(), **ALLOCATE),
        lambda: lca.verify(run, repair=True),
        lambda: lca.train(problem(), run, train, resume=True),
        lambda: lca.train(problem(), run, train, overwrite=True),
    ):
        with pytest.raises(LCAError, match="expected a file or a folder, found a link|is not a run store"):
            action()
    assert (precious / "file").read_text() == "precious"


@pytest.mark.parametrize("name", ["lca", "lca/train", "training", "weights"])
def test_folder_that_is_a_link_is_refused_and_its_target_kept(run, problem, precious, name):
    lca.allocate(run, problem(), **ALLOCATE)
    shutil.move(run / name, precious / "moved")
    (run / name).symlink_to(precious / "moved")
    before = {path: path.read_bytes() for path in precious.rglob("*") if path.is_file()}
    with pytest.raises(LCAError, match="expected a file or a folder, found a link"):
        lca.allocate(run, problem(), overwrite=True, **ALLOCATE)
    assert {path: path.read_bytes() for path in precious.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["zarr.json", "weights/zarr.json", "training/loss/zarr.json"])
def test_pipes_are_refused_instead_of_waiting_for_them(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    for command in (["info"], ["verify"], ["analyze", "layers"]):
        assert "found a pipe or a device" in call(*command, run, status=1).stderr


def test_links_and_pipes_among_the_chunks_are_found(run, precious):
    chunk = run / "weights" / "c" / "0" / "1"
    chunk.unlink()
    chunk.symlink_to(precious / "file")
    (finding,) = lca.verify(run).findings
    assert (finding.where, finding.what.partition(",")[0]) == ("weights/c/0/1", "a link")
    with pytest.raises(LCAError, match="weights/c/0/1: expected a file or a folder, found a link"):
        lca.open(run).iterates(1)
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(LCAError, match="weights/c/0/1: expected a file or a folder, found a pipe or a device"):
        lca.open(run).iterates(1)
    (finding,) = lca.verify(run, repair=True).findings
    assert (finding.where, finding.what.partition(",")[0]) == ("weights/c/0/1", "a pipe or a device")


def test_a_linked_folder_of_chunks_is_neither_read_nor_written(run, precious, problem):
    lca.allocate(run, problem(), **ALLOCATE)
    shutil.rmtree(run / "lca/train/lca/c/0")
    (run / "lca/train/lca/c/0").symlink_to(precious)
    with pytest.raises(LCAError, match="lca/train/lca/c/0: expected a file or a folder, found a link"):
        lca.open(run).allocation().read("lca")
    with pytest.raises(LCAError, match="lca/train/lca/c/0: expected a file or a folder, found a link"):
        AllocationWriter(open_run(run, "r+").allocation()).undo(0)
    assert sorted(path.name for path in precious.iterdir()) == ["file"]


def test_the_store_itself_may_be_a_link(run, tmp_path, problem):
    (tmp_path / "link.zarr").symlink_to(run)
    assert lca.allocate(tmp_path / "link.zarr", problem(), **ALLOCATE).complete


def test_a_run_is_not_replaced_while_it_is_allocated(run, problem):
    """Allocations share the lock of their run, which training needs for itself."""
    writer, train = RunWriter(open_run(run, "r+")), lca.TrainConfig(batch_size=20, iterations=9, device="cpu")
    with writer.lock("train"):
        with pytest.raises(LCAError, match="is being written by process"):
            lca.train(problem(), run, train, overwrite=True)
        with pytest.raises(LCAError, match="is being written by process"):
            lca.allocate(run, problem(), **ALLOCATE)
        with pytest.raises(LCAError, match="is being written by process"):
            lca.verify(run, repair=True)
        assert lca.allocate(run, problem(), name="other", **ALLOCATE).complete
    assert lca.open(run).n_iterations == 100
    with writer.lock(), pytest.raises(LCAError, match="is being written by process"):
        lca.allocate(run, problem(), **ALLOCATE)
