import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

import lca
from lca.errors import LCAError
from lca.problem.losses import cross_entropy
from lca.store.checked_file import read_checked, write_checked
from lca.store.paths import locate
from lca.store.run import open_run
from lca.store.run_writer import RunWriter
from lca.store.schema import PREVIOUS_STATE, STATE_FILE


def config(**options):
    return lca.TrainConfig(**{"optimizer": "adam", "batch_size": 20, "iterations": 300, "device": "cpu", **options})


@pytest.fixture
def often(monkeypatch):
    """Store a state after every block."""
    monkeypatch.setattr("lca.recording.recorder.COMMIT_S", 0)
    monkeypatch.setattr("lca.recording.recorder.COMMIT_SHARE", float("inf"))


def stop(path, problem, after=150):
    """Train until an exception stops the training after `after` iterations, so that it can be resumed."""
    calls = 0

    def losses(model, batch):
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls > after:
            raise RuntimeError("stopped")
        return cross_entropy(model, batch)

    with pytest.raises(RuntimeError, match="stopped"):
        lca.train(replace(problem(), losses=losses), path, config())


def read_weights(path):
    return np.asarray(lca.open(path).weights[:])


@pytest.fixture
def whole(tmp_path, problem):
    """The iterates of an uninterrupted training run."""
    lca.train(problem(), tmp_path / "whole.zarr", config())
    return read_weights(tmp_path / "whole.zarr")


def test_a_flipped_bit_in_the_state_never_changes_the_iterates(tmp_path, problem, often, whole):
    """Training resumes from the state before the damaged one, and computes the same iterates again."""
    stop(tmp_path / "stopped.zarr", problem)
    content = (tmp_path / "stopped.zarr" / STATE_FILE).read_bytes()
    generator = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / f"{i}.zarr"
        shutil.copytree(tmp_path / "stopped.zarr", path)
        flipped = bytearray(content)
        flipped[generator.integers(len(content))] ^= 1 << int(generator.integers(8))
        (path / STATE_FILE).write_bytes(flipped)
        finding = next(finding for finding in lca.verify(path).findings if finding.where == STATE_FILE)
        assert finding.what.startswith("damaged")
        lca.train(problem(), path, config(), resume=True)
        assert np.array_equal(read_weights(path), whole)
        assert lca.verify(path).is_sound


def test_repair_removes_a_damaged_state(tmp_path, problem, often, whole):
    path = tmp_path / "run.zarr"
    stop(path, problem)
    for name in (STATE_FILE, f"weights/{PREVIOUS_STATE}"):
        (path / name).write_bytes(b"not a state")
    with pytest.raises(LCAError, match="state.pt is damaged: it does not begin with the expected header"):
        lca.train(problem(), path, config(), resume=True)
    assert lca.verify(path, repair=True).n_repaired == 2
    lca.train(problem(), path, config(), resume=True)  # from the first iterate
    assert np.array_equal(read_weights(path), whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: "text",
        lambda state: [state],
        lambda state: {},
        lambda state: state | {"iterates": "100"},
        lambda state: state | {"iterates": -1},
        lambda state: state | {"optimizer": 1},
        lambda state: state | {"optimizer": {"state": {}, "param_groups": []}},
        lambda state: state | {"buffers": None},
        lambda state: state | {"rng": torch.zeros(3)},
        lambda state: state | {"accelerator_rng": 7},
        lambda state: {key: value for key, value in state.items() if key != "rng"},
    ],
)
def test_crafted_states_are_refused(tmp_path, problem, change):
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, config(iterations=70))
    RunWriter(open_run(path, "r+")).reopen()
    state = torch.load(BytesIO(read_checked(locate(path) / STATE_FILE)), weights_only=True)
    write_checked(locate(path) / STATE_FILE, lambda file: torch.save(change(state), file))
    with pytest.raises(LCAError, match="training state"):
        lca.train(problem(), path, config(iterations=70), resume=True)


def test_state_cannot_run_code(tmp_path, problem):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    lca.train(problem(), tmp_path / "run.zarr", config())
    RunWriter(open_run(tmp_path / "run.zarr", "r+")).reopen()
    write_checked(locate(tmp_path / "run.zarr") / STATE_FILE, lambda file: torch.save({"iterates": Evil()}, file))
    with pytest.raises(LCAError, match="cannot be read"):
        lca.train(problem(), tmp_path / "run.zarr", config(), resume=True)
    assert not (tmp_path / "pwned").exists()
