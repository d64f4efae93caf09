"""A run store at a URL has the same contents as one on a disk, even if the writing process dies at any point."""

import os
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import fsspec
import numpy as np
import pytest
from faults import dies
from fsspec.implementations.memory import MemoryFileSystem

import lca
from lca.errors import DamagedError, LCAError, UsageError
from lca.store.allocation_writer import AllocationWriter
from lca.store.local import Local
from lca.store.paths import locate
from lca.store.remote import Remote
from lca.store.run import open_run
from lca.store.run_writer import RunWriter
from lca.store.verify import verify

URL = "memory://runs/run.zarr"


@pytest.fixture(autouse=True)
def memory():
    """The objects of memory:// by name, initially empty."""
    store = fsspec.filesystem("memory").store
    store.clear()
    return store


def config(**options):
    return lca.TrainConfig(**{"batch_size": 20, "iterations": 100, "device": "cpu", **options})


SHORT = config(iterations=70)  # two blocks


def contents(place):
    """Return the bytes of every file of a store, except for locks, by name."""
    location, found = locate(place), {}
    for name in location.files():
        if not name.startswith("weights/lock"):
            with (location / name).open() as file:
                found[name] = file.read()
    return found


def allocate(place, problem, **options):
    lca.allocate(place, problem, lca.AllocateConfig(batch_size=60, device="cpu", audit=0.05), **options)


@pytest.fixture
def often(monkeypatch):
    """Commit the training state after every block."""
    monkeypatch.setattr("lca.recording.recorder.COMMIT_S", 0)
    monkeypatch.setattr("lca.recording.recorder.COMMIT_SHARE", float("inf"))


@pytest.mark.parametrize(
    ("place", "kind", "name"),
    [
        ("run.zarr", Local, "run.zarr"),
        ("/a/b/run.zarr", Local, "/a/b/run.zarr"),
        ("file:///a/b/run.zarr", Local, "/a/b/run.zarr"),
        ("file:///a%20b/50%/run%23.zarr", Local, "/a b/50%/run#.zarr"),
        ("file://localhost/a/run.zarr", Local, "/a/run.zarr"),
        (r"C:\runs\run.zarr", Local, r"C:\runs\run.zarr"),
        ("C:/runs/run.zarr", Local, "C:/runs/run.zarr"),
        ("c://runs/run.zarr", Local, "c:/runs/run.zarr"),
        (r"\\server\share\run.zarr", Local, r"\\server\share\run.zarr"),
        ("//server/share/run.zarr", Local, "//server/share/run.zarr"),
        ("a/b://run.zarr", Local, "a/b:/run.zarr"),
        ("a#b%20c?d", Local, "a#b%20c?d"),
        ("~/run.zarr", Local, "~/run.zarr"),
        ("memory://a/run.zarr/", Remote, "memory://a/run.zarr"),
    ],
)
def test_a_string_with_a_protocol_is_a_url(place, kind, name):
    location = locate(place)
    assert (type(location), str(location)) == (kind, name)
    assert str(location / "weights") == f"{name}/weights"
    assert locate(location) is location


@pytest.mark.filterwarnings("ignore:.*nturl2path:DeprecationWarning")
def test_url_of_a_file_on_windows_is_a_path(monkeypatch):
    nturl2path = pytest.importorskip("nturl2path")
    monkeypatch.setattr("urllib.request.url2pathname", nturl2path.url2pathname)
    assert str(locate("file:///C:/my%20runs/run.zarr")) == r"C:\my runs\run.zarr"


def test_a_path_with_a_drive_is_not_turned_into_a_url():
    assert str(locate(Path(r"C:\runs\run.zarr"))) == r"C:\runs\run.zarr"


def test_a_url_turned_into_a_path_is_refused():
    with pytest.raises(
        UsageError, match="s3:/bucket/run.zarr is a URL that was turned into a Path. Pass the URL as a string."
    ):
        locate(Path("s3://bucket/run.zarr"))


def test_a_store_at_a_url_holds_the_same_bytes_as_on_a_disk(tmp_path, problem):
    for place in (URL, tmp_path / "run.zarr"):
        lca.train(problem(), place, config())
        allocate(place, problem())
    assert contents(URL) == contents(tmp_path / "run.zarr")
    assert lca.open(URL).disk_bytes() == sum(map(len, contents(URL).values()))
    assert lca.open(URL).path.free_bytes() is None
    assert verify(URL).findings == []
    np.testing.assert_array_equal(
        lca.open(URL).allocation("train").lca[:], lca.open(tmp_path / "run.zarr").allocation("train").lca[:]
    )


def test_a_training_that_dies_at_any_write_is_resumed_to_the_same_bytes(problem, memory, often, monkeypatch):
    lca.train(problem(), URL, SHORT)
    whole = contents(URL)
    for n in count():
        memory.clear()
        died = dies(monkeypatch, n, lambda: lca.train(problem(), URL, SHORT))
        lca.train(problem(), URL, SHORT, resume=True)
        assert contents(URL) == whole, n
        if not died:
            break
    assert n > 20  # the loop covered a realistic number of changes


# zarr warns about an array whose metadata are deleted while its chunks still exist, and ignores it.
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
def test_a_replacement_that_dies_at_any_write_can_be_repeated_or_resumed(problem, often, monkeypatch):
    replace = lambda: lca.train(problem(), URL, SHORT, overwrite=True)
    replace()
    whole, n_resumed = contents(URL), 0
    for n in range(8):  # the first changes of a replacement, which include the removal
        assert dies(monkeypatch, n, replace), n
        lca.train(problem(), URL, SHORT, resume=True)
        assert contents(URL) == whole, n
        n_resumed += 1
        assert dies(monkeypatch, n, replace), n
        replace()
        assert contents(URL) == whole, n
    assert n_resumed == 8


def test_an_allocation_that_dies_at_any_write_is_continued_to_the_same_bytes(problem, monkeypatch):
    lca.train(problem(), URL, config())
    allocate(URL, problem())
    whole, n_complete = contents(URL), 0
    for n in [0, 1, 2, *range(3, 38, 5)]:
        assert dies(monkeypatch, n, lambda: allocate(URL, problem(), overwrite=True)), n
        run = lca.open(URL)
        if run.allocations and run.allocation().complete:
            n_complete += 1
            assert {**contents(URL), "zarr.json": whole["zarr.json"]} == whole, n
        allocate(URL, problem())
        assert contents(URL) == whole, n
    assert n_complete == 2  # only the consolidated metadata had changed


@pytest.mark.parametrize(
    ("names", "lost", "n_writes"),
    [
        (["weights/c/0/1", "lca/train/checksums/c/0/0"], {"lca/train/checksums/c/0/0"}, 3),
        (["lca/train/residual/c/0"], set(), 15),
        (["lca/train/loss/c/1", "training/loss/c/0"], {"training/loss/c/0", "zarr.json"}, 15),
    ],
)
def test_a_repair_that_dies_at_any_write_can_be_repeated(problem, memory, monkeypatch, names, lost, n_writes):
    lca.train(problem(), URL, SHORT)
    allocate(URL, problem())
    whole, before = contents(URL), dict(memory)
    repair = lambda: verify(URL, repair=True)
    for n in count():
        memory.clear()
        memory.update(before)
        for name in names:
            fsspec.filesystem("memory").pipe_file(f"/runs/run.zarr/{name}", b"damaged")
        died = dies(monkeypatch, n, repair)
        for _ in range(2):  # the first repair finds the checksums, and the second one what they hid
            repair()
        lca.train(problem(), URL, SHORT, resume=True)
        allocate(URL, problem())
        assert contents(URL).keys() == whole.keys(), n
        assert {name for name, content in contents(URL).items() if content != whole[name]} == lost, n
        if not died:
            break
    assert n >= n_writes  # the loop covered a realistic number of changes


def test_damage_in_an_unfinished_block_is_found_and_repaired(problem):
    lca.train(problem(), URL, SHORT)
    allocate(URL, problem())
    whole = contents(URL)
    writer = AllocationWriter(open_run(URL, "r+").allocation())
    writer.reopen()
    writer.mark(0, False)
    fsspec.filesystem("memory").pipe_file("/runs/run.zarr/lca/train/residual/c/0", b"damaged")
    with pytest.raises(DamagedError, match="To find all damaged parts, use lca.verify"):
        allocate(URL, problem())
    (finding,) = verify(URL, repair=True).findings
    assert finding.where == "lca/train/residual, block 0 (iterations 0 to 63)"
    allocate(URL, problem())
    assert contents(URL) == whole


def test_a_folder_that_is_not_a_run_store_is_kept(problem):
    fsspec.filesystem("memory").pipe_file("/runs/run.zarr/precious", b"mine")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(
            UsageError, match="memory://runs/run.zarr exists and is not a run store, so it is not replaced"
        ):
            lca.train(problem(), URL, config(), **options)
    assert contents(URL) == {"precious": b"mine"}
    assert locate(URL).exists()
    with pytest.raises(UsageError, match="is not a run store"):
        lca.open(URL)


def test_a_run_is_replaced_only_with_overwrite_and_its_neighbors_are_kept(problem):
    fsspec.filesystem("memory").pipe_file("/runs/run.zarr.txt", b"a neighbor")
    lca.train(problem(), URL, config())
    with pytest.raises(UsageError, match="already exists. Choose another path, or pass overwrite=True to replace it"):
        lca.train(problem(), URL, config())
    assert lca.train(problem(), URL, config(iterations=3), overwrite=True).n_iterations == 3
    assert fsspec.filesystem("memory").cat_file("/runs/run.zarr.txt") == b"a neighbor"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("weights/c/0/1", None),
        ("weights/c/0/1", b"damage"),
        ("lca/train/loss/c/0", None),
        ("lca/train/loss/c/0", b"damage"),
        ("training/loss/c/0", b"damage"),
    ],
)
def test_damage_is_found(problem, name, damage):
    lca.train(problem(), URL, config())
    allocate(URL, problem())
    (locate(URL) / name).remove()
    if damage:
        (locate(URL) / name).write(lambda file: file.write(damage))
    findings = verify(URL, repair=True).findings
    assert len(findings) == 1
    assert findings[0].where.startswith(name.split("/c/")[0])


def test_a_store_that_cannot_be_reached_is_not_reported_as_damaged(problem, monkeypatch):
    """Otherwise, a repair during an outage would mark the whole store as missing."""
    lca.train(problem(), URL, config())
    before = contents(URL)
    filesystem = MemoryFileSystem.cat_file

    def refuse_chunks(self, path, **options):
        if "/c/" in path:
            raise ConnectionError("no route to host")
        return filesystem(self, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", refuse_chunks)
        with pytest.raises(LCAError, match="memory://runs/run.zarr cannot be read: no route to host"):
            verify(URL, repair=True)
        with pytest.raises(LCAError, match="^memory://runs/run.zarr cannot be read"):
            lca.open(URL).iterates(0)
    assert contents(URL) == before


def test_a_run_opened_for_reading_cannot_be_changed(problem):
    lca.train(problem(), URL, config(iterations=3))
    with pytest.raises(ValueError, match="read-only"):
        RunWriter(lca.open(URL)).reopen()


def test_an_unknown_protocol_is_a_usage_error(problem):
    with pytest.raises(
        UsageError, match=r"expected a path, or a URL such as s3://bucket/run.zarr, found 'nowhere://run.zarr'"
    ):
        lca.train(problem(), "nowhere://run.zarr", config())


def test_a_missing_package_is_named_in_the_error():
    program = (
        "import sys; sys.modules['s3fs'] = None; from lca.store.paths import locate; locate('s3://bucket/run.zarr')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "LCAError: s3://bucket/run.zarr needs a package that is not installed" in done.stderr
    assert "pip install 'loss-change-allocation[cloud]'" in done.stderr


def test_a_run_that_another_process_creates_at_the_same_time_is_not_replaced(tmp_path):
    """Both processes find the place free. The second one to finish its store must not replace the first."""
    place = locate(tmp_path / "run.zarr")
    with (
        pytest.raises(UsageError, match="another process has created .*run.zarr in the meantime. Choose another path"),
        place.create_folder() as folder,
    ):
        folder.mkdir()
        (tmp_path / "run.zarr").mkdir()
        (tmp_path / "run.zarr" / "zarr.json").write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


@pytest.mark.parametrize("n_busy", [2, 3])
def test_a_file_that_another_process_reads_is_replaced_later(run, monkeypatch, n_busy):
    """Windows refuses to replace a file while it is open. Here, the first attempts of every replacement fail."""
    monkeypatch.setattr(Local, "busy_s", (0.0, 0.0))
    attempts, replace = Counter(), Path.replace

    def refuse_first(path, target):
        attempts[Path(target)] += 1
        if attempts[Path(target)] % (n_busy + 1):
            raise PermissionError(13, "The process cannot access the file", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse_first)
    writer = RunWriter(open_run(run, "r+"))
    if n_busy > 2:
        with pytest.raises(PermissionError):
            writer.set_attributes(note="new")
        with pytest.raises(PermissionError):
            (locate(run) / "file").write(lambda file: file.write(b"new"))
    else:
        writer.set_attributes(note="new")
        assert open_run(run).attributes["note"] == "new"
        (locate(run) / "file").write(lambda file: file.write(b"new"))
        assert (run / "file").read_bytes() == b"new"
    assert max(attempts.values()) == 3
    assert not [path for path in run.rglob("*") if ".partial" in path.name]


def test_what_a_killed_process_leaves_behind_is_removed(run, problem, monkeypatch):
    """A kill during the creation of a store leaves a temporary folder, and one during a write a partial file."""
    folder = run.parent / ".new.zarr-abcdefgh"
    other, recent = run.parent / ".other.zarr-abcdefgh", run.parent / ".new.zarr-12345678"
    for each in (folder, other, recent):
        (each / "new" / "weights").mkdir(parents=True)
    for each in (folder, other):
        os.utime(each, (0, 0))
    lca.train(problem(), run.parent / "new.zarr", iterations=3, batch_size=20, device="cpu")
    assert not folder.exists()
    assert other.exists()
    assert recent.exists()  # another process may be creating the store at this moment
    lca.allocate(run, problem(), device="cpu")
    writer = open_run(run, "r+").allocation()
    (run / "lca/train/lca/c/0/0.partial").touch()
    AllocationWriter(writer).undo(0)
    lca.allocate(run, problem(), device="cpu")
    assert not (run / "lca/train/lca/c/0/0.partial").exists()
    assert verify(run).findings == verify(run).remarks == []
