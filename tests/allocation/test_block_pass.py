import signal

import numpy as np
import pytest
import torch

import lca
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.errors import Interrupted
from lca.store.allocation_writer import AllocationWriter
from lca.store.schema import Status

PREFLIGHT = 6  # passes: two at θ_0 and four for the slope
CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


def read(path, name="train"):
    allocation = lca.open(path).allocation(name)
    return {array: np.asarray(getattr(allocation, array)[:]) for array in allocation.arrays}


def test_smooth_iteration_takes_two_passes(run, problem, monkeypatch):
    passes = []
    original = FullGradient._evaluate
    monkeypatch.setattr(FullGradient, "_evaluate", lambda *a: passes.append(1) or original(*a))
    summary = lca.allocate(
        run, problem(), lca.AllocateConfig(tolerance=1.0, total_tolerance=1.0, audit=0, batch_size=60, device="cpu")
    )
    assert len(passes) == PREFLIGHT + 2 * 100 + 1
    assert summary.gradients_per_iteration == 2


def test_nan_weights_set_the_status_not_finite(tmp_path, problem):
    model = problem().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(5):
            with torch.no_grad():
                model[0].weight += 0.01 if t != 3 else float("nan")
            recorder.record()
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(device="cpu"))
    stored = read(tmp_path / "run.zarr")
    assert stored["status"].tolist() == [1, 1, 1, 3, 3]
    assert np.isnan(stored["lca"][:, 3:]).all()
    assert np.isfinite(stored["lca"][:, :3]).all()
    assert summary.not_finite == 2
    assert not summary.within_bounds


def test_only_missing_blocks_are_allocated_again(tmp_path, problem):
    path, config = tmp_path / "run.zarr", lca.AllocateConfig(device="cpu")
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=150, device="cpu"))
    lca.allocate(path, problem(), config)
    whole = read(path)
    allocation = lca.open(path, "r+").allocation("train")
    writer = AllocationWriter(allocation)
    for lost in (0, 2):
        writer.undo(lost)
        allocation.lca[:, allocation.blocks_of_run[lost]] = np.nan
    lca.allocate(path, problem(), config)
    for name, values in read(path).items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)


def test_first_iteration_whose_loss_is_not_finite_is_reported(tmp_path, problem):
    """Here the weights stay finite, so that only a pass can find the infinite loss."""
    model = problem().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(6):
            with torch.no_grad():
                model[0].weight += 0.01
                if t == 3:
                    model[2].weight += 3e38
                    model[2].bias -= 3e38
            recorder.record()
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(device="cpu"))
    allocation = lca.open(tmp_path / "run.zarr").allocation("train")
    assert np.isfinite(lca.open(tmp_path / "run.zarr").weights[:]).all()
    assert allocation.status[:].tolist() == [Status.CONVERGED] * 3 + [Status.NOT_FINITE] * 3
    assert np.isfinite(allocation.lca[:, :3]).all()
    assert (summary.not_finite, summary.first_not_finite) == (3, 3)
    assert summary.loss_end == allocation.loss[3]
    assert summary.within_total
    assert not summary.within_bounds
    assert "3 iterations not finite (the first is iteration 3)" in str(summary)


def test_weights_that_are_not_finite_cost_no_pass(tmp_path, problem, monkeypatch):
    model = problem().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(20):
            with torch.no_grad():
                model[0].weight += 0.01 if t != 3 else float("nan")
            recorder.record()
    passes, original = [], FullGradient._evaluate
    monkeypatch.setattr(FullGradient, "_evaluate", lambda *a: passes.append(1) or original(*a))
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(**CONFIG))
    assert len(passes) == 6 + 1 + 2 * 3
    assert (summary.not_finite, summary.first_not_finite) == (17, 3)


@pytest.mark.parametrize("at", [9, 30, 150])
def test_signal_keeps_the_finished_iterations_of_a_block(run, problem, monkeypatch, at):
    lca.allocate(run, problem(), AllocateConfig(name="whole", **CONFIG))
    passes, original = [], FullGradient._evaluate

    def interrupt(self, *arguments):
        passes.append(1)
        if len(passes) == at:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", interrupt)
    with pytest.raises(
        Interrupted,
        match="stopped by SIGTERM. Everything allocated so far is kept. To continue, repeat the call without overwrite",
    ):
        lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    done = lca.open(run).allocation("train").n_allocated
    assert done == (at - 7) // 2 + (at - 7) % 2  # the current iteration was finished
    first, at = len(passes), -1
    lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    assert len(passes) - first == 6 + 1 + 2 * (100 - done)
    whole, resumed = (lca.open(run).allocation(name) for name in ("whole", "train"))
    for name in whole.arrays:
        np.testing.assert_array_equal(getattr(whole, name)[:], getattr(resumed, name)[:], err_msg=name)


def test_progress_shows_how_many_iterations_are_refined(run, problem, capsys):
    """With a part tolerance of nearly zero most iterations are refined, and the progress suggests a larger one."""
    lca.allocate(run, problem(), **CONFIG, part_tolerance=1e-9, max_intervals=4, progress=True)
    intervals = read(run)["intervals"]
    printed = capsys.readouterr().err
    assert f"{(intervals > 2).sum()} refined, a larger tolerance is faster" in printed
    assert (intervals > 2).sum() > 50
    lca.allocate(run, problem(), **CONFIG, tolerance=1.0, progress=True, name="unrefined", total_tolerance=1.0)
    assert "refined" not in capsys.readouterr().err


def test_a_long_block_is_stored_before_it_is_complete(tmp_path, problem, monkeypatch):
    """The process dies during the 31st of these stores, so 30 iterations need not be computed again."""
    monkeypatch.setattr("lca.store.chunks.LONGEST_BLOCK", 1024)
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, batch_size=20, iterations=100, learning_rate=0.1, device="cpu")
    lca.allocate(path, problem(), AllocateConfig(name="whole", **CONFIG))
    calls, write = [], AllocationWriter.write_block

    def die(*arguments, **options):
        calls.append(1)
        if len(calls) == 31:
            raise KeyboardInterrupt
        write(*arguments, **options)

    with monkeypatch.context() as context:
        context.setattr("lca.store.chunks.PARTIAL_S", 0)
        context.setattr(AllocationWriter, "write_block", die)
        with pytest.raises(KeyboardInterrupt):
            lca.allocate(path, problem(), AllocateConfig(**CONFIG))
    assert lca.open(path).allocation("train").n_allocated == 30
    passes, original = [], FullGradient._evaluate
    monkeypatch.setattr(FullGradient, "_evaluate", lambda *a: passes.append(1) or original(*a))
    lca.allocate(path, problem(), AllocateConfig(**CONFIG))
    assert len(passes) == PREFLIGHT + 1 + 2 * 70
    whole, continued = read(path, "whole"), read(path)
    for name in whole:
        np.testing.assert_array_equal(whole[name], continued[name], err_msg=name)
    assert lca.verify(path).findings == []
