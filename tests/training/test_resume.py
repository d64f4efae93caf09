"""A training that was stopped, in whatever way, goes on and ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.errors import Interrupted, LCAError, UsageError
from lca.problem.losses import cross_entropy
from lca.recording import resume_state as checkpoint
from lca.store.run import open_run


def chunks(path):
    """The bytes of every file of the iterates."""
    folder = Path(path) / "weights" / "c"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def noisy():
    """A net whose steps depend on the random state and on buffers: dropout and BatchNorm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def config(**options):
    return lca.TrainConfig(**{"optimizer": "adam", "batch_size": 20, "iterations": 300, "device": "cpu", **options})


@pytest.fixture
def often(monkeypatch):
    """A state after every block."""
    monkeypatch.setattr("lca.recorder.COMMIT_S", 0)
    monkeypatch.setattr("lca.recorder.COMMIT_SHARE", float("inf"))


class StopsAt:
    """Losses that do something at one of their calls."""

    def __init__(self, call, action):
        self.calls, self.call, self.action = 0, call, action

    def __call__(self, model, batch):
        self.calls += 1
        if self.calls == self.call:
            self.action()
        return cross_entropy(model, batch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", [1, 63, 64, 65, 200])
def test_a_signal_ends_it_after_the_iteration_and_resuming_ends_the_same(tmp_path, problem, number, call):
    before = signal.getsignal(signal.SIGINT)  # which a process in the background may have been given to ignore
    lca.train(problem(model=noisy()), tmp_path / "whole.zarr", config())
    stopped = lca.Problem(
        noisy(), StopsAt(call, lambda: os.kill(os.getpid(), number)), problem().train, problem().val, name="small"
    )
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} after {call} of 300 iterations"):
        lca.train(stopped, tmp_path / "run.zarr", config())
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterations) == ("training", call)
    assert signal.getsignal(signal.SIGINT) is before
    random_state = torch.rand(7)  # whatever happened in between does not matter
    assert len(random_state) == 7
    resumed = lca.train(problem(model=noisy()), tmp_path / "run.zarr", config(), resume=True)
    assert resumed.status == "complete"
    assert chunks(tmp_path / "run.zarr") == chunks(tmp_path / "whole.zarr")
    for name, array in lca.open(tmp_path / "whole.zarr").training.items():
        assert resumed.training[name][:].tolist() == array[:].tolist(), name


@pytest.mark.parametrize("call", [30, 150, 290])
def test_an_exception_loses_no_more_than_since_the_last_state(tmp_path, problem, often, call):
    lca.train(problem(model=noisy()), tmp_path / "whole.zarr", config())
    stopped = lca.Problem(noisy(), StopsAt(call, lambda: 1 / 0), problem().train, problem().val, name="small")
    with pytest.raises(ZeroDivisionError):
        lca.train(stopped, tmp_path / "run.zarr", config())
    assert lca.open(tmp_path / "run.zarr").n_iterations == call - 1
    state = checkpoint.load(open_run(tmp_path / "run.zarr"))
    assert (state["iterates"] if state else 0) == call // 64 * 64
    lca.train(problem(model=noisy()), tmp_path / "run.zarr", config(), resume=True)
    assert chunks(tmp_path / "run.zarr") == chunks(tmp_path / "whole.zarr")


def test_schedules_and_interventions_go_on_where_they_were(tmp_path, run, problem):
    options = {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "cosine",
        "freeze": ("last@180",),
        "layers": ("first:lr=0.02,momentum=0.5",),
        "l2": 1e-3,
        "init_from": f"{run}@50",
    }
    lca.train(problem(), tmp_path / "whole.zarr", config(**options))
    stopped = lca.Problem(
        problem().model,
        StopsAt(150, lambda: os.kill(os.getpid(), signal.SIGINT)),
        problem().train,
        problem().val,
        name="small",
    )
    with pytest.raises(Interrupted):
        lca.train(stopped, tmp_path / "run-2.zarr", config(**options))
    resumed = lca.train(problem(), tmp_path / "run-2.zarr", config(**options), resume=True)
    assert chunks(tmp_path / "run-2.zarr") == chunks(tmp_path / "whole.zarr")
    for name, array in lca.open(tmp_path / "whole.zarr").training.items():
        assert resumed.training[name][:].tolist() == array[:].tolist(), name
    with pytest.raises(UsageError, match=r"freeze \['last@180'\] there and \['last@100'\] here"):
        lca.train(problem(), tmp_path / "run-2.zarr", config(**{**options, "freeze": ("last@100",)}), resume=True)


def start(path, *options):
    arguments = ["train", "digits-fc", "--iterations", "4000", "--device", "cpu", "--out", path, *options]
    return subprocess.Popen([sys.executable, "-m", "lca", *map(str, arguments)], stderr=subprocess.DEVNULL)


def killed(process, begun, seconds):
    """Kill a process so long after it has written its first block; whether it was still running then."""
    deadline = time.monotonic() + 60
    while process.poll() is None and not begun() and time.monotonic() < deadline:
        pass
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path):
    assert start(tmp_path / "whole.zarr").wait() == 0
    path, moments = tmp_path / "run.zarr", random.Random(0)
    begun = lambda: chunks(path)
    kills = sum(killed(start(path, "--resume"), begun, moments.uniform(0, 1.5)) for _ in range(4))
    assert kills > 0
    assert start(path, "--resume").wait() == 0
    assert chunks(path) == chunks(tmp_path / "whole.zarr")
    assert not list(path.rglob("*.partial"))


def test_resuming_what_is_finished_changes_nothing(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", config())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run.zarr").rglob("*")}
    assert lca.train(problem(), tmp_path / "run.zarr", config(), resume=True).n_iterations == 300
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run.zarr").rglob("*")} == before


def test_resuming_what_is_not_there_begins_it(tmp_path, problem):
    assert lca.train(problem(), tmp_path / "run.zarr", config(iterations=5), resume=True).n_iterations == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.5}, "trained otherwise: learning_rate 0.001 there and 0.5 here"),
        ({"iterations": 400}, "iterations 300 there and 400 here"),
        ({"codec": "lz4"}, "codec zstd there and lz4 here"),
    ],
)
def test_another_configuration_is_refused(tmp_path, problem, options, message):
    lca.train(problem(), tmp_path / "run.zarr", config())
    with pytest.raises(UsageError, match=message):
        lca.train(problem(), tmp_path / "run.zarr", config(**options), resume=True)


def test_other_data_or_another_problem_is_refused(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", config())
    with pytest.raises(UsageError, match="splits other data there and these here"):
        lca.train(problem(n_examples=63), tmp_path / "run.zarr", config(), resume=True)
    other = lca.Problem(problem().model, train=problem().train, val=problem().val, name="other")
    with pytest.raises(UsageError, match="problem small there and other here"):
        lca.train(other, tmp_path / "run.zarr", config(), resume=True)


def test_a_damaged_state_is_named(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", config())
    open_run(tmp_path / "run.zarr", "r+").reopen()
    (tmp_path / "run.zarr" / checkpoint.FILE).write_bytes(b"not a state")
    with pytest.raises(LCAError, match=r"state.pt cannot be read .*Remove it, and --resume starts from the first"):
        lca.train(problem(), tmp_path / "run.zarr", config(), resume=True)


def test_a_state_is_never_code(tmp_path, problem):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    lca.train(problem(), tmp_path / "run.zarr", config())
    open_run(tmp_path / "run.zarr", "r+").reopen()
    torch.save({"iterates": Evil()}, tmp_path / "run.zarr" / checkpoint.FILE)
    with pytest.raises(LCAError, match="cannot be read"):
        lca.train(problem(), tmp_path / "run.zarr", config(), resume=True)
    assert not (tmp_path / "pwned").exists()


def test_an_allocation_killed_at_random_moments_ends_the_same(tmp_path):
    path, moments = tmp_path / "run.zarr", random.Random(1)
    problem = lca.load("digits-fc")
    lca.train(problem, path, lca.TrainConfig(iterations=1500, device="cpu"))

    def allocate(name):
        arguments = ["allocate", path, "--name", name, "--batch-size", "500", "--device", "cpu"]
        return subprocess.Popen([sys.executable, "-m", "lca", *map(str, arguments)], stderr=subprocess.DEVNULL)

    assert allocate("whole").wait() == 0
    begun = (path / "lca/killed/blocks/c").exists
    kills = sum(killed(allocate("killed"), begun, moments.uniform(0, 2)) for _ in range(3))
    assert kills > 0
    assert allocate("killed").wait() == 0
    whole, resumed = (lca.open(path).allocation(name) for name in ("whole", "killed"))
    for name in whole.arrays:
        np.testing.assert_array_equal(getattr(whole, name)[:], getattr(resumed, name)[:], err_msg=name)
    assert whole.attributes["audit_result"] == resumed.attributes["audit_result"]
