import threading

import numpy as np
import pytest
import torch

import lca
from lca.allocation.trajectory import BLOCKS_HELD, Trajectory
from lca.errors import LCAError

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2], ids="{} blocks".format)
def blocks_held(request, monkeypatch):
    """Hold one block in memory, as on the CPU, or two, as with CUDA."""
    monkeypatch.setitem(BLOCKS_HELD, "cpu", request.param)
    return request.param


def test_iterates_can_be_read_in_any_order(run, monkeypatch, blocks_held):
    monkeypatch.setattr("lca.allocation.trajectory.READ_ROWS", 20)  # the model has 51 parameters
    opened = lca.open(run)
    weights = opened.weights[:]
    order = [0, 1, 63, 64, 65, 63, 100, 3, 64, 99, 0]
    with Trajectory(opened, CPU) as theta:
        for t in order:
            assert np.array_equal(theta(t).numpy(), weights[:, t]), t
            assert theta.is_finite(t)
        first = theta(5)
        first += 1
        assert np.array_equal(theta(5).numpy(), weights[:, 5])  # the caller owns the returned tensor


def test_next_block_is_read_while_the_current_one_is_in_use(run, monkeypatch):
    monkeypatch.setitem(BLOCKS_HELD, "cpu", 2)
    opened = lca.open(run)
    reads, original = [], type(opened).iterates
    may_finish = threading.Event()

    def read_slowly(self, block, *parameters):
        reads.append((block, threading.current_thread().name))
        if block == 1:
            may_finish.wait(10)
        return original(self, block, *parameters)

    monkeypatch.setattr(type(opened), "iterates", read_slowly)
    with Trajectory(opened, CPU) as theta:
        theta(0)
        theta.read_ahead(1)
        theta.read_ahead(2)  # does not exist
        assert np.array_equal(theta(63).numpy(), opened.weights[:, 63])  # does not wait for block 1
        may_finish.set()
        theta(64)
    assert [block for block, _ in reads] == [0, 1]
    assert all(name.startswith("lca-reader") for _, name in reads)


def test_only_one_block_is_in_memory_on_the_cpu(run):
    with Trajectory(lca.open(run), CPU) as theta:
        theta(0)
        theta.read_ahead(1)
        assert [block for block, _ in theta._blocks] == [0]
        theta(64)
        assert [block for block, _ in theta._blocks] == [1]
        assert len(theta._buffers) == 1


def test_damaged_block_is_named(run):
    (run / "weights/c/0/1").write_bytes(b"damage")
    with Trajectory(lca.open(run), CPU) as theta:
        theta(3)
        with pytest.raises(LCAError, match="block 1 of .*/weights is damaged"):
            theta(64)
