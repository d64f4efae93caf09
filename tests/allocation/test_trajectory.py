import threading

import numpy as np
import pytest
import torch

import lca
from lca.allocation.trajectory import BLOCKS_HELD, Trajectory
from lca.errors import LCAError

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2], ids="{} held".format)
def held(request, monkeypatch):
    """So many blocks in memory, of iterates and of results: as on the CPU, and as for CUDA."""
    monkeypatch.setitem(BLOCKS_HELD, "cpu", request.param)
    return request.param


def test_any_iterate_in_any_order(run, monkeypatch, held):
    monkeypatch.setattr("lca.allocation.trajectory.READ_ROWS", 20)  # of 51 parameters
    opened = lca.open(run)
    weights = opened.weights[:]
    order = [0, 1, 63, 64, 65, 63, 100, 3, 64, 99, 0]
    with Trajectory(opened, CPU) as theta:
        for t in order:
            assert np.array_equal(theta(t).numpy(), weights[:, t]), t
            assert theta.is_finite(t)
        first = theta(5)
        first += 1
        assert np.array_equal(theta(5).numpy(), weights[:, 5])  # what is handed out is the caller's


def test_the_next_block_is_read_while_this_one_is_in_use(run, monkeypatch):
    monkeypatch.setitem(BLOCKS_HELD, "cpu", 2)
    opened = lca.open(run)
    begun, original = [], type(opened).iterates
    going = threading.Event()

    def slow(self, block, *parameters):
        begun.append((block, threading.current_thread().name))
        if block == 1:
            going.wait(10)
        return original(self, block, *parameters)

    monkeypatch.setattr(type(opened), "iterates", slow)
    with Trajectory(opened, CPU) as theta:
        theta(0)
        theta.read_ahead(1)
        theta.read_ahead(2)  # there is none
        assert np.array_equal(theta(63).numpy(), opened.weights[:, 63])  # not held up
        going.set()
        theta(64)
    assert [block for block, _ in begun] == [0, 1]
    assert all(name.startswith("lca-reader") for _, name in begun)


def test_on_the_cpu_one_block_is_in_memory(run):
    with Trajectory(lca.open(run), CPU) as theta:
        theta(0)
        theta.read_ahead(1)
        assert [block for block, _ in theta._blocks] == [0]
        theta(64)
        assert [block for block, _ in theta._blocks] == [1]
        assert len(theta._buffers) == 1


def test_a_damaged_block_is_named(run):
    (run / "weights/c/0/1").write_bytes(b"damage")
    with Trajectory(lca.open(run), CPU) as theta:
        theta(3)
        with pytest.raises(LCAError, match="block 1 of .*/weights is damaged"):
            theta(64)
