import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from lca.allocation.allocator import Allocator

import lca
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.allocation.trajectory import BLOCKS_HELD, Trajectory
from lca.allocation.write_behind import Rows, WriteBehind
from lca.errors import Interrupted, LCAError
from lca.store.allocation import Allocation
from lca.store.chunks import round_mantissa

CPU = torch.device("cpu")
CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


@pytest.fixture(params=[1, 2], ids="{} held".format)
def held(request, monkeypatch):
    """So many blocks in memory, of iterates and of results: as on the CPU, and as for CUDA."""
    monkeypatch.setitem(BLOCKS_HELD, "cpu", request.param)
    return request.param


def test_any_iterate_in_any_order(run, monkeypatch, held):
    monkeypatch.setattr("lca.replay.STRIP", 20)  # of 51 parameters
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


def test_rows_go_where_the_schema_says(run, held):
    allocation = lca.open(run, "r+").create_allocation("train", {}, ["lca", "gradient_sign"])
    with WriteBehind(allocation, CPU) as writer:
        for block, n in ((1, 36), (0, 64)):
            rows = writer.begin(block)
            assert not rows.is_set(0)
            for row in range(n):
                rows["lca", row] = torch.full((51,), 100.0 * block + row, dtype=torch.float64)
                rows["status", row] = 1
            rows["loss", 0] = torch.tensor(7.0 + block, dtype=torch.float64)
            rows["gradient_sign", 1] = torch.arange(7, dtype=torch.uint8)
            writer.write(rows, done=True)
    expected = np.concatenate([np.arange(64), 100 + np.arange(36)])
    np.testing.assert_array_equal(allocation.lca[:], np.tile(expected, (51, 1)))
    assert np.flatnonzero(np.isfinite(allocation.loss[:])).tolist() == [0, 64]
    assert allocation.loss[64] == 8.0
    assert allocation.gradient_sign[:, 65].tolist() == list(range(7))
    assert allocation.blocks[:].tolist() == [1, 1]


def test_an_error_of_the_writer_is_raised(run, monkeypatch):
    allocation = lca.open(run, "r+").create_allocation("train", {})
    monkeypatch.setattr(Allocation, "write_block", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError), WriteBehind(allocation, CPU) as writer:
        writer.write(writer.begin(0), done=True)


def test_bits_are_rounded_to_the_nearest():
    values = np.array([1.0, 1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, -np.pi, 0.0, np.nan], np.float32)
    kept = round_mantissa(values, 7)
    np.testing.assert_array_equal(kept[:3], [1.0, 1.0, 1.0 + 2.0**-6])  # ties go to the even one
    assert kept[3] == -np.float32(402 / 128)
    assert kept[4] == 0
    assert np.isnan(kept[5])
    assert round_mantissa(values, 23) is values


def test_rows_take_up_what_an_interrupted_call_has_left(run):
    allocation = lca.open(run, "r+").create_allocation("train", {})
    with WriteBehind(allocation, CPU) as writer:
        rows = writer.begin(0)
        rows["lca", 2], rows["status", 2], rows["intervals", 2] = torch.ones(51), 1, 2
        writer.write(rows, done=False)
    assert not allocation.blocks[0]
    again = Rows(allocation, CPU)
    again.begin(0)
    assert [again.is_set(row) for row in range(4)] == [False, False, True, False]
    assert again.arrays()["lca"][2].tolist() == [1.0] * 51


@pytest.mark.parametrize("at", [9, 30, 150])
def test_a_signal_keeps_what_is_done_of_a_block(run, problem, monkeypatch, at):
    lca.allocate(run, problem(), AllocateConfig(name="whole", **CONFIG))
    passes, original = [], FullGradient._evaluate

    def interrupts(self, *arguments):
        passes.append(1)
        if len(passes) == at:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", interrupts)
    with pytest.raises(Interrupted, match="stopped by SIGTERM; what is allocated is kept. Go on with the same command"):
        lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    done = lca.open(run).allocation("train").n_allocated
    assert done == (at - 7) // 2 + (at - 7) % 2  # the iteration under way was finished
    first, at = len(passes), -1
    lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    assert len(passes) - first == 6 + 1 + 2 * (100 - done)
    whole, resumed = (lca.open(run).allocation(name) for name in ("whole", "train"))
    for name in whole.arrays:
        np.testing.assert_array_equal(getattr(whole, name)[:], getattr(resumed, name)[:], err_msg=name)


def test_a_signal_ends_the_audit_early(run, problem, monkeypatch):
    config = AllocateConfig(**{**CONFIG, "audit": 0.1})
    passes, original = [], FullGradient._evaluate

    def interrupts(self, *arguments):
        passes.append(1)
        if len(passes) == 6 + 201 + 2 * 12:  # the preflight, the iterations, two of ten audited
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", interrupts)
    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        lca.allocate(run, problem(), config)
    assert len(passes) == 6 + 201 + 2 * 12
    allocation = lca.open(run).allocation("train")
    assert (allocation.n_allocated, allocation.complete) == (100, False)
    assert len(lca.allocate(run, problem(), config).audit.iterations) == 10


@pytest.mark.parametrize(
    ("number", "words"), [("ENOSPC", "the disk is full"), ("EROFS", "the disk is read-only"), ("EDQUOT", "quota")]
)
def test_a_disk_that_takes_no_more_is_told_and_nothing_is_lost(run, problem, monkeypatch, number, words):
    import errno

    original = Allocation.write_block

    def full(self, block, *arguments, **options):
        if block == 1:
            raise OSError(getattr(errno, number), "no")
        original(self, block, *arguments, **options)

    monkeypatch.setattr(Allocation, "write_block", full)
    with pytest.raises(
        LCAError, match=rf"{words}.*run.zarr. What is allocated is kept: mend that. Go on with the same"
    ):
        lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    assert lca.open(run).allocation("train").n_allocated == 64
    monkeypatch.setattr(Allocation, "write_block", original)
    assert lca.allocate(run, problem(), AllocateConfig(**CONFIG)).within_bounds


def test_two_allocations_of_the_same_name_at_once_are_refused(run, problem, monkeypatch):
    original = Allocator.allocate_blocks

    def meanwhile(self):
        with pytest.raises(LCAError, match="is being written by process"):
            lca.allocate(run, problem(), AllocateConfig(**CONFIG))
        lca.allocate(run, problem(), AllocateConfig(name="other", **CONFIG, iterations="0:1"))
        original(self)

    calls = iter([meanwhile, original, original])
    monkeypatch.setattr(Allocator, "allocate_blocks", lambda self: next(calls)(self))
    lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    assert lca.open(run).allocations == ["other", "train"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_whole_allocation_on_cuda_agrees_with_the_cpu(tmp_path, problem):
    """Blocks read ahead and written behind, classes, signs, the refinement of the total, and the audit."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=150, learning_rate=1.0, device="cpu"))
    allocations = []
    for device in ("cpu", "cuda"):
        config = lca.AllocateConfig(
            name=device, device=device, by_class=True, gradient_signs=True, tolerance=10, total_tolerance=1e-5
        )
        given = replace(problem(), groups=lambda batch: batch[1])
        summary = lca.allocate(path, given, config)
        assert len(summary.audit.iterations) == 5
        assert summary.refined > 0
        allocations.append(lca.open(path).allocation(device))
    for name in ("lca", "loss", "class_lca", "tensor_lca", "gradient_norm", "motion_norm"):
        cpu, cuda = (getattr(allocation, name)[:] for allocation in allocations)
        np.testing.assert_allclose(cuda, cpu, rtol=1e-3, atol=1e-5, err_msg=name)
