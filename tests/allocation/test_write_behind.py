import numpy as np
import pytest
import torch

import lca
from lca.allocation.trajectory import BLOCKS_HELD
from lca.allocation.write_behind import BlockRows, WriteBehind
from lca.store.allocation_writer import AllocationWriter
from lca.store.run_writer import RunWriter

CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}
CPU = torch.device("cpu")


def allocate(run, problem, name, **options):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(name=name, **{**CONFIG, **options}))
    return lca.open(run).allocation(name), summary


@pytest.fixture(params=[1, 2], ids="{} blocks".format)
def blocks_held(request, monkeypatch):
    """Hold one block in memory, as on the CPU, or two, as with CUDA."""
    monkeypatch.setitem(BLOCKS_HELD, "cpu", request.param)
    return request.param


def test_rounding_the_lca_does_not_change_the_sums(run, problem):
    whole, _ = allocate(run, problem, "whole")
    rounded, summary = allocate(run, problem, "rounded", keep_bits=7, audit=0.1)
    exact, kept = whole.lca[:], rounded.lca[:]
    assert (kept.view(np.uint32) & (2**16 - 1) == 0).all()
    assert np.abs(kept - exact).max() > 0
    assert (np.abs(kept - exact) <= 2.0**-8 * np.abs(exact)).all()
    for name in ("allocated", "tensor_lca", "residual"):
        np.testing.assert_array_equal(getattr(whole, name)[:], getattr(rounded, name)[:])
    assert np.mean(summary.audit.part_error) > 2.0**-11  # the audit includes the rounding


def test_rows_are_written_to_the_right_place(run, blocks_held):
    allocation = RunWriter(lca.open(run, "r+")).create_allocation("train", {}, ["lca", "gradient_sign"])
    with WriteBehind(allocation, CPU) as writer:
        for block, n in ((1, 36), (0, 64)):
            rows = writer.begin(block)
            assert not rows.is_set(0)
            for row in range(n):
                rows["lca", row] = torch.full((51,), 100.0 * block + row, dtype=torch.float64)
                rows["status", row] = 1
            rows["loss", 0] = torch.tensor(7.0 + block, dtype=torch.float64)
            rows["gradient_sign", 1] = torch.arange(7, dtype=torch.uint8)
            writer.write(rows)
    expected = np.concatenate([np.arange(64), 100 + np.arange(36)])
    np.testing.assert_array_equal(allocation.lca[:], np.tile(expected, (51, 1)))
    assert np.flatnonzero(np.isfinite(allocation.loss[:])).tolist() == [0, 64]
    assert allocation.loss[64] == 8.0
    assert allocation.gradient_sign[:, 65].tolist() == list(range(7))
    assert allocation.blocks[:].tolist() == [1, 1]


def test_error_of_the_writing_thread_is_raised(run, monkeypatch):
    allocation = RunWriter(lca.open(run, "r+")).create_allocation("train", {})
    monkeypatch.setattr(AllocationWriter, "write_block", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError), WriteBehind(allocation, CPU) as writer:
        writer.write(writer.begin(0))


def test_rows_contain_the_values_stored_by_an_interrupted_call(run):
    allocation = RunWriter(lca.open(run, "r+")).create_allocation("train", {})
    with WriteBehind(allocation, CPU) as writer:
        rows = writer.begin(0)
        rows["lca", 2], rows["status", 2], rows["intervals", 2] = torch.ones(51), 1, 2
        writer.save(rows)
    assert not allocation.blocks[0]
    reopened = BlockRows(allocation, CPU)
    reopened.begin(0)
    assert [reopened.is_set(row) for row in range(4)] == [False, False, True, False]
    assert reopened.to_arrays()["lca"][2].tolist() == [1.0] * 51
