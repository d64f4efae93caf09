"""Allocation by several processes under torchrun, even if one is killed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import lca
from lca.runtime import workers as workers_module
from lca.runtime.workers import Workers, count_cores

TWO = "--nproc-per-node=2"
OPTIONS = ["--batch-size", "500", "--device", "cpu", "--by-class", "--audit", "0.02"]
THREADS = max(1, count_cores() // 2)  # the number that each of two processes uses


def make_command(path, name):
    return ["-m", "lca", "allocate", str(path), "--name", name, *OPTIONS]


def make_environment(**variables):
    """Return the environment of this process with these variables and without OMP_NUM_THREADS."""
    return {**{key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}, **variables}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The path of a run with an allocation "one" that a single process made."""
    path = tmp_path_factory.mktemp("workers") / "run.zarr"
    lca.train(lca.load("digits-fc"), path, lca.TrainConfig(iterations=200, device="cpu"))
    same_threads = make_environment(OMP_NUM_THREADS=str(THREADS))
    subprocess.run([sys.executable, *make_command(path, "one")], check=True, capture_output=True, env=same_threads)
    return path


def require_equal(path, name):
    one, many = (lca.open(path).allocation(n) for n in ("one", name))
    assert many.complete
    for array in one.arrays:
        np.testing.assert_array_equal(getattr(one, array)[:], getattr(many, array)[:], err_msg=array)
    assert one.attributes["audit_result"] == many.attributes["audit_result"]


@pytest.fixture
def torchrun(server):
    """A function that runs torchrun, checks that it succeeds, and returns what it has written to stdout and stderr."""
    return partial(server.run, module="torch.distributed.run", env=make_environment())


def read_environment(pid):
    return dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line)


@pytest.fixture
def restarted(monkeypatch):
    """The environment of the second of four processes, which torchrun has restarted once."""
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(workers_module, "count_cores", lambda: 13)
    threads = torch.get_num_threads()
    yield monkeypatch
    torch.set_num_threads(threads)


def test_two_processes_give_the_same_result_as_one(digits, torchrun):
    out, _ = torchrun(TWO, *make_command(digits, "two"))
    require_equal(digits, "two")
    assert out.count(b"allocated ") == 1  # only the first process prints
    assert b"bounds               hold" in out


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds the workers in /proc, which exists only on Linux"
)
@pytest.mark.parametrize("rank", [0, 1])
def test_result_is_the_same_after_a_killed_worker_is_restarted(digits, server, tmp_path, rank):
    name = f"killed-{rank}"
    with (tmp_path / "errors").open("wb") as errors:
        options = {"module": "torch.distributed.run", "env": make_environment(), "stderr": errors}
        process = server.start(TWO, "--max-restarts=2", *make_command(digits, name), **options)
    status, deadline = digits / "lca" / name / "status" / "c", time.monotonic() + 60
    while not (status.exists() and any(status.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    pids = {read_environment(child).get("RANK"): int(child) for child in children}
    os.kill(pids[str(rank)], signal.SIGKILL)
    assert process.ends_within(120)
    errors = (tmp_path / "errors").read_text()
    assert process.wait() == 0, errors
    assert "exitcode: -9" in errors
    require_equal(digits, name)


def test_the_same_processes_can_make_two_allocations(digits, torchrun, tmp_path):
    """The workers must reset their block counter, or the second allocation would seem complete from the start."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, lca\n"
        "for name in ('first', 'second'):\n"
        "    config = lca.AllocateConfig(name=name, batch_size=500, iterations='0:70', audit=0, device='cpu')\n"
        "    lca.allocate(sys.argv[1], lca.load('digits-fc'), config, overwrite=True)\n"
    )
    torchrun(TWO, script, digits)
    first, second = (lca.open(digits).allocation(name) for name in ("first", "second"))
    assert (first.n_allocated, second.n_allocated) == (70, 70)
    np.testing.assert_array_equal(first.lca[:], second.lca[:])


def test_failed_bound_has_exit_status_0_under_torchrun(digits, server, torchrun):
    options = ["--name", "strict", "--tolerance", "1e-12", "--max-intervals", "2", "--iterations", "0:3"]
    arguments = ["allocate", digits, *options, "--device", "cpu", "--batch-size", "500"]
    assert b"DO NOT HOLD" in torchrun(TWO, "-m", "lca", *arguments)[0]
    assert b"is already complete" in server.run(*arguments, status=3)[1]


def test_restart_continues_instead_of_overwriting(digits, restarted):
    status = digits / "lca" / "one" / "status" / "c" / "0"
    before = status.stat().st_mtime_ns
    restarted.setenv("RANK", "0")
    restarted.setattr("lca.allocation.allocate.join_workers", lambda: Workers(workers_module._Alone(), restarted=True))
    config = lca.AllocateConfig(name="one", batch_size=500, by_class=True, audit=0.02, device="cpu")
    assert lca.allocate(digits, lca.load("digits-fc"), config, overwrite=True).within_bounds
    assert status.stat().st_mtime_ns == before
