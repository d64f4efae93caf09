"""Whole allocations: correct values, slices of iterations, interruption, a full disk and concurrent calls."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.allocation.block_pass import BlockPass
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError
from lca.store.allocation_writer import AllocationWriter
from lca.store.schema import Status
from lca.store.verify import verify

PREFLIGHT = 6  # passes: two at θ_0 and four for the slope
CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


def read(path, name="train"):
    allocation = lca.open(path).allocation(name)
    return {array: np.asarray(getattr(allocation, array)[:]) for array in allocation.arrays}


def integrate_by_brute_force(problem, theta0, theta1, n=400):
    """Allocate an iteration by the midpoint rule with n float64 autograd gradients over the split in one batch."""
    model, (x, y) = copy.deepcopy(problem.model).double(), problem.train
    mean = 0
    for s in (np.arange(n) + 0.5) / n:
        torch.nn.utils.vector_to_parameters(torch.lerp(theta0, theta1, float(s)), model.parameters())
        loss = nn.functional.cross_entropy(model(x.double()), y)
        mean = mean + torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))]) / n
    return (theta1 - theta0) * mean


def allocate(run, problem, name, **options):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(name=name, **{**CONFIG, **options}))
    return lca.open(run).allocation(name), summary


def test_every_parameter_agrees_with_brute_force(run, problem):
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    stored = read(run)
    weights = torch.from_numpy(lca.open(run).weights[:]).double()
    for t in (0, 1, 17, 63, 64, 99):
        expected = integrate_by_brute_force(problem(), weights[:, t], weights[:, t + 1])
        scale = float(expected.abs().sum())
        assert np.abs(stored["lca"][:, t] - expected.numpy()).sum() < 0.003 * scale


def test_every_array_contains_the_quantity_of_the_schema(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(batch_size=13, device="cpu"))
    stored, opened = read(run), lca.open(run)
    weights = torch.from_numpy(opened.weights[:])
    model, (x, y) = problem().model, problem().train
    losses, norms = [], []
    for theta in weights.T:
        torch.nn.utils.vector_to_parameters(theta.clone(), model.parameters())
        loss = nn.functional.cross_entropy(model(x), y)
        norms.append([float(g.norm()) for g in torch.autograd.grad(loss, list(model.parameters()))])
        losses.append(float(loss.detach()))
    np.testing.assert_allclose(stored["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(stored["gradient_norm"], norms, rtol=1e-4)
    np.testing.assert_allclose(stored["lca"].sum(0, dtype=np.float64), stored["allocated"], atol=1e-6)
    np.testing.assert_allclose(stored["residual"], stored["allocated"] - np.diff(stored["loss"]), atol=1e-12)
    assert np.abs(stored["residual"]).max() <= 1e-3
    motion = np.diff(weights.double().numpy(), axis=1)
    for i, parameter in enumerate(opened.parameters):
        np.testing.assert_allclose(stored["tensor_lca"][:, i], stored["lca"][parameter.span].sum(0), atol=1e-6)
        np.testing.assert_allclose(
            stored["motion_norm"][:, i], np.linalg.norm(motion[parameter.span], axis=0), rtol=1e-5
        )
    assert (stored["status"] == Status.CONVERGED).all()
    assert (stored["intervals"] >= 2).all()
    assert (stored["blocks"] == 1).all()
    attributes = opened.allocation("train").attributes
    assert {"split", "rule", "tolerance", "batch_size", "batchnorm", "precision", "examples", "fingerprint"} <= set(
        attributes
    )
    assert (attributes["batch_size"], attributes["examples"]) == (13, 60)
    assert (summary.loss_start, summary.loss_end) == (stored["loss"][0], stored["loss"][-1])
    assert summary.allocated == pytest.approx(stored["loss"][-1] - stored["loss"][0], rel=0.01)
    assert summary.within_bounds


def test_split_selects_the_allocated_loss(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(split="val", device="cpu"))
    opened = lca.open(run)
    assert opened.allocations == ["val"]
    model, (x, y) = problem().model, problem().val
    torch.nn.utils.vector_to_parameters(torch.from_numpy(opened.weights[:, 100]), model.parameters())
    assert summary.loss_end == pytest.approx(float(nn.functional.cross_entropy(model(x), y).detach()), rel=1e-5)


def test_resumed_allocation_equals_uninterrupted_allocation(run, problem, monkeypatch):
    lca.allocate(run, problem(), lca.AllocateConfig(name="whole", audit=0, batch_size=20, device="cpu"))
    passes = []
    original = FullGradient._evaluate

    def stop_in_second_block(self, *arguments):
        passes.append(1)
        if len(passes) == 150:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", stop_in_second_block)
    with pytest.raises(KeyboardInterrupt):
        lca.allocate(run, problem(), lca.AllocateConfig(audit=0, batch_size=20, device="cpu"))
    assert read(run)["blocks"].tolist() == [1, 0]
    assert np.isfinite(read(run)["loss"][:64]).all()
    assert np.isnan(read(run)["loss"][64:]).all()  # not reached
    assert lca.open(run).allocation("train").n_allocated == 64
    passes.clear()
    lca.allocate(run, problem(), lca.AllocateConfig(audit=0, batch_size=20, device="cpu"))
    assert len(passes) == PREFLIGHT + 2 * 36 + 1
    whole, resumed = read(run, "whole"), read(run)
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)
    passes.clear()
    assert lca.allocate(run, problem(), lca.AllocateConfig(audit=0, batch_size=20, device="cpu")).within_bounds
    assert passes == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("3:9", range(3, 9)),
        ("::30", range(0, 100, 30)),
        ("90:", range(90, 100)),
        (":70:69", range(0, 70, 69)),
        ("64:100", range(64, 100)),
    ],
)
def test_slice_equals_the_whole_allocation_and_is_empty_elsewhere(run, problem, given, expected):
    whole, _ = allocate(run, problem, "whole")
    part, summary = allocate(run, problem, "part", iterations=given)
    is_allocated = np.isin(np.arange(100), expected)
    for name in ("lca", "allocated", "residual", "intervals", "status", "tensor_lca", "motion_norm"):
        a, b = (np.moveaxis(getattr(x, name)[:], -1 if name == "lca" else 0, 0) for x in (whole, part))
        np.testing.assert_array_equal(a[is_allocated], b[is_allocated], err_msg=name)
        assert (np.isnan(b[~is_allocated]) if b.dtype.kind == "f" else b[~is_allocated] == 0).all(), name
    np.testing.assert_array_equal(whole.loss[:][expected], part.loss[:][expected])
    # The loss at iterate 64 belongs to the second block, so the first block does not store it.
    stored = set(expected) | {t + 1 for t in expected if t + 1 != 64}
    assert set(np.flatnonzero(np.isfinite(part.loss[:]))) == stored
    assert part.blocks[:].all()
    assert (summary.iterations, part.n_allocated) == (len(expected), len(expected))
    changes = np.diff(whole.loss[:])[list(expected)]
    assert summary.change == pytest.approx(changes.sum(), abs=1e-12)
    assert summary.loss_end == pytest.approx(whole.loss[expected[-1] + 1], abs=1e-12)
    assert summary.within_bounds
    assert not verify(run).findings


@pytest.mark.parametrize(
    ("number", "words"), [("ENOSPC", "the disk is full"), ("EROFS", "the disk is read-only"), ("EDQUOT", "quota")]
)
def test_full_disk_is_reported_and_nothing_is_lost(run, problem, monkeypatch, number, words):
    import errno

    original = AllocationWriter.write_block

    def fail_in_second_block(self, block, *arguments, **options):
        if block == 1:
            raise OSError(getattr(errno, number), "no")
        original(self, block, *arguments, **options)

    monkeypatch.setattr(AllocationWriter, "write_block", fail_in_second_block)
    remedy = (
        "Finished blocks of iterations are kept. Free disk space or restore write access. To continue, repeat the call"
    )
    with pytest.raises(LCAError, match=rf"{words}.*run.zarr. {remedy}"):
        lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    assert lca.open(run).allocation("train").n_allocated == 64
    monkeypatch.setattr(AllocationWriter, "write_block", original)
    assert lca.allocate(run, problem(), AllocateConfig(**CONFIG)).within_bounds


def test_concurrent_allocations_of_the_same_name_are_refused(run, problem, monkeypatch):
    original = BlockPass.run

    def allocate_twice(self):
        with pytest.raises(LCAError, match="is being written by process"):
            lca.allocate(run, problem(), AllocateConfig(**CONFIG))
        lca.allocate(run, problem(), AllocateConfig(name="other", **CONFIG, iterations="0:1"))
        original(self)

    calls = iter([allocate_twice, original, original])
    monkeypatch.setattr(BlockPass, "run", lambda self: next(calls)(self))
    lca.allocate(run, problem(), AllocateConfig(**CONFIG))
    assert lca.open(run).allocations == ["other", "train"]


@pytest.mark.cuda
def test_allocation_on_cuda_agrees_with_the_cpu(tmp_path, problem):
    """Covers reading ahead, writing behind, classes, gradient signs, refinement of the total and the audit."""
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
