"""Training and allocation are killed and continued, with the same result as without the interruption."""

import random
import shutil
import time
from pathlib import Path
from signal import SIGKILL

import numpy as np
import pytest

import lca


def read_chunks(path):
    """Return the bytes of every chunk of the iterates, by name."""
    folder = Path(path) / "weights" / "c"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def train(server):
    arguments = ["train", "digits-fc", "--iterations", 2000, "--device", "cpu", "--out"]
    return lambda path, *options: server.start(*arguments, path, *options)


def kill_after(process, has_begun, seconds):
    """Kill a process this long after it has written its first block. Return whether it was still running."""
    deadline = time.monotonic() + 60
    while not process.ends_within(0.005) and not has_begun() and time.monotonic() < deadline:
        pass
    return not process.ends_within(seconds) and process.send(SIGKILL) == -SIGKILL


def test_training_killed_at_random_moments_ends_with_the_same_bytes(tmp_path, train):
    assert train(tmp_path / "whole.zarr").wait() == 0
    path, moments = tmp_path / "run.zarr", random.Random(0)
    written = (path / "weights" / "c").rglob
    has_begun = lambda: any(file.is_file() and file.suffix != ".partial" for file in written("*"))
    kills = sum(kill_after(train(path, "--resume"), has_begun, moments.uniform(0, 0.75)) for _ in range(4))
    assert kills > 0
    assert train(path, "--resume").wait() == 0
    assert read_chunks(path) == read_chunks(tmp_path / "whole.zarr")
    assert not list(path.rglob("*.partial"))


def test_allocation_killed_at_random_moments_ends_with_the_same_result(tmp_path, server):
    path, moments = tmp_path / "run.zarr", random.Random(1)
    problem = lca.load("digits-fc")
    lca.train(problem, path, lca.TrainConfig(iterations=600, device="cpu"))

    def allocate(name):
        return server.start("allocate", path, "--name", name, "--batch-size", 500, "--device", "cpu")

    assert allocate("whole").wait() == 0
    has_begun = (path / "lca/killed/blocks/c").exists
    kills = sum(kill_after(allocate("killed"), has_begun, moments.uniform(0, 0.8)) for _ in range(3))
    assert kills > 0
    assert allocate("killed").wait() == 0
    whole, resumed = (lca.open(path).allocation(name) for name in ("whole", "killed"))
    for name in whole.arrays:
        np.testing.assert_array_equal(getattr(whole, name)[:], getattr(resumed, name)[:], err_msg=name)
    assert whole.attributes["audit_result"] == resumed.attributes["audit_result"]


WRITERS = {
    "plot": ["plot", "layers", "RUN", "--out", "out.png"],
    "report": ["plot", "report", "RUN", "--out", "out.html"],
    "film": ["plot", "animation", "RUN", "--iterations", "0:20", "--out", "out.gif"],
    "json": ["analyze", "layers", "RUN", "--json", "out.json"],
    "init": ["init", "out.py"],
}


@pytest.fixture
def start(server, tmp_path):
    """A function that starts a command in the folder of the test, in which run.zarr replaces RUN."""
    return lambda words: server.start(*[word.replace("RUN", "run.zarr") for word in words], cwd=tmp_path)


@pytest.fixture(scope="module")
def allocated(tmp_path_factory):
    path = tmp_path_factory.mktemp("killed") / "run.zarr"
    problem = lca.load("digits-fc")
    lca.train(problem, path, iterations=70, device="cpu")
    lca.allocate(path, problem, device="cpu")
    return path


def read_all(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("name", WRITERS)
def test_a_killed_command_leaves_the_old_file_or_the_new_one(allocated, tmp_path, start, name):
    shutil.copytree(allocated, tmp_path / "run.zarr")
    before, words = read_all(tmp_path / "run.zarr"), WRITERS[name]
    out = tmp_path / next(word for word in words if word.startswith("out"))
    begin = time.monotonic()
    assert start(words).wait() == 0
    duration, new = time.monotonic() - begin, out.read_bytes()
    for fraction in (0.8, 0.95):
        out.write_bytes(b"old") if name != "init" else out.unlink(missing_ok=True)
        process = start(words)
        if not process.ends_within(fraction * duration):
            process.send(SIGKILL)
        content = out.read_bytes() if out.exists() else None
        assert content in (b"old", None) or len(content) > 0.9 * len(new)
    out.unlink(missing_ok=True)
    assert start(words).wait() == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([out.name, "run.zarr"])
    assert read_all(tmp_path / "run.zarr") == before
