"""The main commands and functions work without what macOS and Windows lack, and with unusual characters in paths."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import windows
from shell import call

import lca
from lca.runtime import host
from lca.runtime.workers import count_cores

SHORT = {"batch_size": 20, "iterations": 5, "device": "cpu"}
# A path with this name is a single folder on Linux and macOS. `~` is not the home folder, and `%20` is not a space.
UNUSUAL = "~a b#c%20d&é?[x]*"


def read_arrays(run):
    """Return the content of all arrays of an allocation and of the weights, by name."""
    allocation = run.allocation()
    arrays = {name: getattr(allocation, name)[:] for name in allocation.arrays}
    return {**arrays, "weights": run.weights[:]}


@pytest.mark.skipif(sys.platform != "linux", reason="imitates Windows by means of Linux")
def test_commands_work_without_what_windows_lacks(tmp_path):
    """The arrays are the same as those that this process makes, and every name is one that Windows allows."""
    program = [sys.executable, "-W", "error", Path(windows.__file__), tmp_path]
    root = Path(lca.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len([*(root / "lca").rglob("*.py")]) - 1  # all but lca itself
    run, other = tmp_path / windows.FOLDER / "run.zarr", tmp_path / "other.zarr"
    lca.train(lca.load("digits-fc"), other, iterations=6)
    lca.allocate(other, lca.load("digits-fc"), audit=0)
    found, expected = read_arrays(lca.open(run)), read_arrays(lca.open(other))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    assert lca.open(run).allocations == ["train", "val"]
    names = {name for path in tmp_path.rglob("*") for name in path.relative_to(tmp_path).parts}
    assert {"helping.png", "layers.json", "film.gif", "report.html", "lock-val"} <= names
    forbidden = re.compile(r'.*[<>:"\\|?*].*|.*[. ]|(con|prn|aux|nul|com\d|lpt\d)(\..*)?', re.IGNORECASE)
    assert not [name for name in names if forbidden.fullmatch(name)]


def test_library_works_without_what_macos_lacks(tmp_path, problem, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(host, "PROCESS_STATUS", Path("missing"))
    monkeypatch.setattr(host, "CONTAINER_LIMITS", ())
    assert count_cores() == os.cpu_count()
    lca.train(problem(), tmp_path / "run.zarr", **SHORT)
    checked = lca.check(tmp_path / "run.zarr", problem(), device="cpu")
    assert checked.memory_bytes > host.get_peak_memory_bytes() / 2 > 10**7
    assert lca.allocate(tmp_path / "run.zarr", problem(), device="cpu").complete


def test_commands_accept_unusual_paths(tmp_path, monkeypatch, clean_imports):
    monkeypatch.chdir(tmp_path)
    folder = Path(UNUSUAL)
    run, mine = f"{folder}/run é#1.zarr", f"{folder}/my problem#.py:problem"
    call("init", mine.removesuffix(":problem"))
    call("train", mine, "--out", f"{run}{os.sep}", "--iterations", 5)
    assert "6 iterates" in call("info", run).output
    call("allocate", run, "--problem", mine)
    call("analyze", "layers", run, "--json", folder / "layers é#.json")
    call("plot", "layers", run, "--out", folder / "layers #%.png")
    call("plot", "report", run, "--out", folder / "report ?.html")
    call("verify", run)
    assert sorted(path.name for path in tmp_path.iterdir()) == [UNUSUAL]
    found = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")
    assert found == sorted(["my problem#.py", "run é#1.zarr", "layers é#.json", "layers #%.png", "report ?.html"])


def test_library_accepts_unusual_paths(tmp_path, problem, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path(UNUSUAL)
    run = f"{folder}/run.zarr{os.sep}"
    lca.train(problem(), run, **SHORT)
    assert lca.allocate(run, problem(), device="cpu").complete
    lca.figures.save(lca.figures.layers(run), folder / "layers #%20.svg")
    lca.figures.report([run], folder / "report.html")
    assert lca.verify(run).is_sound
    url = folder.absolute().as_uri() + "/run.zarr"
    assert "%20" in url
    assert lca.open(url).n_iterations == lca.open(folder / "run.zarr").n_iterations == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [UNUSUAL]
