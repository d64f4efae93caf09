"""Training and allocation are killed and continued, with the same result as without the interruption."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lca


def read_chunks(path):
    """Return the bytes of every chunk of the iterates, by name."""
    folder = Path(path) / "weights" / "c"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def start(path, *options):
    arguments = ["train", "digits-fc", "--iterations", "4000", "--device", "cpu", "--out", path, *options]
    return subprocess.Popen([sys.executable, "-m", "lca", *map(str, arguments)], stderr=subprocess.DEVNULL)


def kill_after(process, has_begun, seconds):
    """Kill a process this long after it has written its first block. Return whether it was still running."""
    deadline = time.monotonic() + 60
    while process.poll() is None and not has_begun() and time.monotonic() < deadline:
        pass
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def test_training_killed_at_random_moments_ends_with_the_same_bytes(tmp_path):
    assert start(tmp_path / "whole.zarr").wait() == 0
    path, moments = tmp_path / "run.zarr", random.Random(0)
    written = (path / "weights" / "c").rglob
    has_begun = lambda: any(file.is_file() and file.suffix != ".partial" for file in written("*"))
    kills = sum(kill_after(start(path, "--resume"), has_begun, moments.uniform(0, 1.5)) for _ in range(4))
    assert kills > 0
    assert start(path, "--resume").wait() == 0
    assert read_chunks(path) == read_chunks(tmp_path / "whole.zarr")
    assert not list(path.rglob("*.partial"))


def test_allocation_killed_at_random_moments_ends_with_the_same_result(tmp_path):
    path, moments = tmp_path / "run.zarr", random.Random(1)
    problem = lca.load("digits-fc")
    lca.train(problem, path, lca.TrainConfig(iterations=1500, device="cpu"))

    def allocate(name):
        arguments = ["allocate", path, "--name", name, "--batch-size", "500", "--device", "cpu"]
        return subprocess.Popen([sys.executable, "-m", "lca", *map(str, arguments)], stderr=subprocess.DEVNULL)

    assert allocate("whole").wait() == 0
    has_begun = (path / "lca/killed/blocks/c").exists
    kills = sum(kill_after(allocate("killed"), has_begun, moments.uniform(0, 2)) for _ in range(3))
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


def run_command(folder, words):
    """Run a command in a folder until it ends or is killed, and return the process."""
    command = [sys.executable, "-m", "lca", *[str(folder / "run.zarr") if word == "RUN" else word for word in words]]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
def test_a_killed_command_leaves_the_old_file_or_the_new_one(allocated, tmp_path, name):
    shutil.copytree(allocated, tmp_path / "run.zarr")
    before, words = read_all(tmp_path / "run.zarr"), WRITERS[name]
    out = tmp_path / next(word for word in words if word.startswith("out"))
    begin = time.monotonic()
    assert run_command(tmp_path, words).wait() == 0
    duration, new = time.monotonic() - begin, out.read_bytes()
    for fraction in (0.8, 0.95):
        out.write_bytes(b"old") if name != "init" else out.unlink(missing_ok=True)
        process = run_command(tmp_path, words)
        try:
            process.wait(timeout=fraction * duration)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        content = out.read_bytes() if out.exists() else None
        assert content in (b"old", None) or len(content) > 0.9 * len(new)
    out.unlink(missing_ok=True)
    assert run_command(tmp_path, words).wait() == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([out.name, "run.zarr"])
    assert read_all(tmp_path / "run.zarr") == before


def test_a_killed_repair_is_repeated_with_the_same_result(allocated, tmp_path):
    path = tmp_path / "run.zarr"
    shutil.copytree(allocated, path)
    for name in ("lca/train/residual/c/0", "lca/train/lca/c/0/1", "lca/train/checksums/c/0/0", "weights/c/0/1"):
        (path / name).write_bytes(b"damaged")
    begin = time.monotonic()
    assert run_command(tmp_path, ["verify", "RUN"]).wait() == 1
    duration = time.monotonic() - begin
    for fraction in (0.8, 0.9, 1.0):
        process = run_command(tmp_path, ["verify", "RUN", "--repair"])
        try:
            process.wait(timeout=fraction * duration)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for _ in range(2):  # the first repair finds the checksums, and the second one what they hid
        run_command(tmp_path, ["verify", "RUN", "--repair"]).wait()
    resume = ["train", "digits-fc", "--out", "RUN", "--iterations", "70", "--device", "cpu", "--resume"]
    assert run_command(tmp_path, resume).wait() == 0
    assert run_command(tmp_path, ["allocate", "RUN", "--device", "cpu"]).wait() == 0
    assert run_command(tmp_path, ["verify", "RUN"]).wait() == 0
    for name in lca.open(path).allocation().arrays:
        a, b = (lca.open(each).allocation().read(name) for each in (path, allocated))
        np.testing.assert_array_equal(a, b, err_msg=name)
    np.testing.assert_array_equal(lca.open(path).weights[:], lca.open(allocated).weights[:])
