"""What an allocation is asked to hold: a slice of the iterations, signs, fewer bits, only sums."""

import numpy as np
import pytest
import torch
from lca.allocation.allocator import worst_iteration
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.analysis import helping, layers
from lca.errors import LCAError, UsageError
from lca.store.allocation import Allocation
from lca.store.schema import Status
from lca.store.verify import verify
from lca.text import describe_summary

BASE = {"batch_size": 20, "audit": 0, "device": "cpu"}


def allocated(run, problem, name, **options):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(name=name, **{**BASE, **options}))
    return lca.open(run).allocation(name), summary


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("3:9", range(3, 9)),
        ("::30", range(0, 100, 30)),
        ("90:", range(90, 100)),
        (":70:69", range(0, 70, 69)),
        ("64:100", range(64, 100)),
    ],
)
def test_a_slice_has_the_values_of_the_whole_and_gaps_elsewhere(run, problem, given, wanted):
    whole, _ = allocated(run, problem, "whole")
    part, summary = allocated(run, problem, "part", iterations=given)
    there = np.isin(np.arange(100), wanted)
    for name in ("lca", "allocated", "residual", "intervals", "status", "tensor_lca", "motion_norm"):
        a, b = (np.moveaxis(getattr(x, name)[:], -1 if name == "lca" else 0, 0) for x in (whole, part))
        np.testing.assert_array_equal(a[there], b[there], err_msg=name)
        assert (np.isnan(b[~there]) if b.dtype.kind == "f" else b[~there] == 0).all(), name
    np.testing.assert_array_equal(whole.loss[:][wanted], part.loss[:][wanted])
    seen = set(wanted) | {t + 1 for t in wanted if t + 1 not in (64,)}  # 64 is stored with the block it begins
    assert set(np.flatnonzero(np.isfinite(part.loss[:]))) == seen | ({64} & set(wanted))
    assert part.blocks[:].all()
    assert (summary.iterations, part.n_allocated) == (len(wanted), len(wanted))
    changes = np.diff(whole.loss[:])[list(wanted)]
    assert summary.change == pytest.approx(changes.sum(), abs=1e-12)
    assert summary.loss_end == pytest.approx(whole.loss[wanted[-1] + 1], abs=1e-12)
    assert summary.within_bounds
    assert not verify(run).findings


def test_analyses_leave_the_gaps_out(run, problem):
    allocated(run, problem, "part", iterations="10:40:2")
    opened = lca.open(run)
    counts = helping(opened, "part")
    assert counts.iterations.left_out == {"not allocated": 85}
    assert counts.iterations.n == 15
    whole, _ = allocated(run, problem, "whole")
    by_layer = layers(opened, "part")
    assert by_layer.iterations.left_out == {"not allocated": 85}
    assert by_layer.total.sum() == pytest.approx(whole.allocated[:][10:40:2].sum())


@pytest.mark.parametrize("given", ["0:101", "100:", "7:7", "9:3"])
def test_iterations_out_of_range_are_named(run, problem, given):
    with pytest.raises(UsageError, match=rf"iterations {given} are out of range: the run has 100 of them, 0 to 99"):
        allocated(run, problem, "part", iterations=given)
    assert lca.open(run).allocations == []


@pytest.mark.parametrize("given", ["5", "a:b", "1:2:3:4", "::0", "-5:", "1:2:", ""])
def test_iterations_that_are_no_slice_are_named(given):
    if given == "1:2:":
        assert lca.AllocateConfig(iterations=given).range(5) == range(1, 2)
        return
    with pytest.raises(UsageError, match=r"a slice A:B or A:B:STEP was wanted"):
        lca.AllocateConfig(iterations=given)


def test_gradient_signs_are_those_of_autograd(run, problem):
    allocation, _ = allocated(run, problem, "signs", gradient_signs=True)
    opened = lca.open(run)
    model, (x, y) = problem().model, problem().train
    packed = allocation.gradient_sign[:]
    assert packed.shape == (-(-51 // 8), 101)
    bits = np.unpackbits(packed, axis=0, count=51)
    for t in (0, 63, 64, 100):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(opened.weights[:, t]), model.parameters())
        loss = nn.functional.cross_entropy(model(x), y)
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])
        sure = gradient.abs() > 1e-6
        assert int(sure.sum()) > 40
        np.testing.assert_array_equal(bits[:, t][sure], (gradient > 0).numpy()[sure])


def test_a_gradient_of_exactly_zero_is_not_above_zero(tmp_path, problem):
    """That of a unit that no example lights: of its weights and bias, and of what leads out of it."""

    def dark():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        nn.init.constant_(model[0].bias[:1], -100)
        return problem(model=model)

    model = dark().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder, torch.no_grad():
        model[2].bias += 0.01
        recorder.record()
    allocation, _ = allocated(tmp_path / "run.zarr", dark, "signs", gradient_signs=True)
    bits = torch.from_numpy(np.unpackbits(allocation.gradient_sign[:], axis=0, count=51)[:, 0])
    first, first_bias, last, last_bias = torch.split(bits, [16, 8, 24, 3])
    assert not first.view(8, 2)[0].any()
    assert not first_bias[0]
    assert not last.view(3, 8)[:, 0].any()
    assert last.view(3, 8)[:, 1:].any()
    assert last_bias.any()


def test_fewer_bits_are_kept_and_sums_stay_exact(run, problem):
    whole, _ = allocated(run, problem, "whole")
    rounded, summary = allocated(run, problem, "rounded", keep_bits=7, audit=0.1)
    exact, kept = whole.lca[:], rounded.lca[:]
    assert (kept.view(np.uint32) & (2**16 - 1) == 0).all()
    assert np.abs(kept - exact).max() > 0
    assert (np.abs(kept - exact) <= 2.0**-8 * np.abs(exact)).all()
    for name in ("allocated", "tensor_lca", "residual"):
        np.testing.assert_array_equal(getattr(whole, name)[:], getattr(rounded, name)[:])
    assert np.mean(summary.audit.part_error) > 2.0**-11  # the audit is of what is stored


def test_only_the_layers_are_kept(run, problem):
    whole, with_audit = allocated(run, problem, "whole", audit=0.1)
    sums, summary = allocated(run, problem, "layers", keep="tensors", audit=0.1)
    assert "lca" not in sums.arrays
    assert not (run / "lca/layers/lca").exists()
    np.testing.assert_array_equal(whole.tensor_lca[:], sums.tensor_lca[:])
    np.testing.assert_allclose(summary.audit.part_error, with_audit.audit.part_error, atol=1e-7)
    with pytest.raises(
        LCAError, match=r"has no lca. Make it anew with `lca allocate .* --name layers --keep lca --overwrite`"
    ):
        _ = sums.lca
    with pytest.raises(LCAError, match="has no class_lca. Make it anew with `lca allocate .* --by-class"):
        _ = sums.class_lca
    assert not verify(run).findings


def test_the_total_is_refined_without_the_parameters_too(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=9, learning_rate=2.0))
    options = {"tolerance": 10.0, "total_tolerance": 1e-4, "keep": "tensors"}
    sums, summary = allocated(tmp_path / "run.zarr", problem, "layers", **options)
    assert summary.refined > 0
    np.testing.assert_allclose(sums.tensor_lca[:].sum(1), sums.allocated[:], atol=1e-9)


@pytest.mark.parametrize("fatal", range(1, 16))
def test_killed_while_the_total_is_refined_it_ends_the_same(tmp_path, problem, monkeypatch, fatal):
    """Whichever of an iteration's arrays was the last to be written."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=9, learning_rate=2.0))
    options = {"tolerance": 10.0, "total_tolerance": 1e-4}
    whole, summary = allocated(path, problem, "whole", **options)
    assert summary.refined > 2
    writes, inside, original = [], [], (Allocation._write, Allocation.write_iteration)

    def write_iteration(self, *arguments):
        inside.append(1)
        original[1](self, *arguments)
        inside.pop()

    def dies(self, *arguments):
        if inside:
            writes.append(1)
            if len(writes) == fatal:
                raise KeyboardInterrupt
        original[0](self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Allocation, "write_iteration", write_iteration)
        patched.setattr(Allocation, "_write", dies)
        with pytest.raises(KeyboardInterrupt):
            allocated(path, problem, "killed", **options)
    killed, _ = allocated(path, problem, "killed", **options)
    for name in whole.arrays:
        np.testing.assert_array_equal(getattr(killed, name)[:], getattr(whole, name)[:], err_msg=name)
    assert "refining" not in killed.attributes


def test_each_refinement_for_the_total_sees_what_the_last_one_gave(tmp_path, problem, monkeypatch):
    """The iteration to refine next is chosen by the values in the store, those just refined among them."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=9, learning_rate=2.0))
    chosen = []

    def choose(arrays, config, eps):
        there = lca.open(path).allocation("total")
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, getattr(there, name)[:], err_msg=name)
        chosen.append(worst_iteration(arrays, config, eps))
        return chosen[-1]

    monkeypatch.setattr("lca.allocator.worst_iteration", choose)
    allocated(path, problem, "total", tolerance=10.0, total_tolerance=1e-4)
    assert len(chosen) > 2
    assert chosen[-1] is None


def test_where_the_loss_ends_the_first_iteration_is_named(tmp_path, problem):
    """The weights stay finite and the loss does not: found by a pass, not by a look at the weights."""
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
    assert "3 iterations not finite; the first of them 3" in describe_summary(summary, "run.zarr")


def test_no_pass_is_spent_on_weights_that_are_not_finite(tmp_path, problem, monkeypatch):
    model = problem().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(20):
            with torch.no_grad():
                model[0].weight += 0.01 if t != 3 else float("nan")
            recorder.record()
    passes, original = [], FullGradient._evaluate
    monkeypatch.setattr(FullGradient, "_evaluate", lambda *a: passes.append(1) or original(*a))
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(**BASE))
    assert len(passes) == 6 + 1 + 2 * 3
    assert (summary.not_finite, summary.first_not_finite) == (17, 3)
