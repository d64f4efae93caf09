"""Training and allocation are killed and continued, with the same result as without the interruption."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

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
