from pathlib import Path

import pytest
import torch

import lca
from lca.errors import LCAError
from lca.store.run import open_run
from lca.store.run_writer import RunWriter
from lca.store.schema import STATE_FILE


def config(**options):
    return lca.TrainConfig(**{"optimizer": "adam", "batch_size": 20, "iterations": 300, "device": "cpu", **options})


def test_damaged_state_is_reported(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", config())
    RunWriter(open_run(tmp_path / "run.zarr", "r+")).reopen()
    (tmp_path / "run.zarr" / STATE_FILE).write_bytes(b"not a state")
    with pytest.raises(LCAError, match=r"state.pt cannot be read as a training state. Remove it to resume from"):
        lca.train(problem(), tmp_path / "run.zarr", config(), resume=True)


def test_state_cannot_run_code(tmp_path, problem):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    lca.train(problem(), tmp_path / "run.zarr", config())
    RunWriter(open_run(tmp_path / "run.zarr", "r+")).reopen()
    torch.save({"iterates": Evil()}, tmp_path / "run.zarr" / STATE_FILE)
    with pytest.raises(LCAError, match="cannot be read"):
        lca.train(problem(), tmp_path / "run.zarr", config(), resume=True)
    assert not (tmp_path / "pwned").exists()
