import copy

import numpy as np
import pytest
import torch
from lca.allocation.allocator import worst_iteration
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError, UsageError
from lca.store.schema import Status

PREFLIGHT = 6  # passes: two at θ_0, and four for the slope


def arrays(path, name="train"):
    allocation = lca.open(path).allocation(name)
    return {array: np.asarray(getattr(allocation, array)[:]) for array in allocation.arrays}


def brute_force(problem, theta0, theta1, n=400):
    """Midpoint rule with n nodes of float64 gradients by autograd over the whole split in one batch."""
    model, (x, y) = copy.deepcopy(problem.model).double(), problem.train
    mean = 0
    for s in (np.arange(n) + 0.5) / n:
        torch.nn.utils.vector_to_parameters(torch.lerp(theta0, theta1, float(s)), model.parameters())
        loss = nn.functional.cross_entropy(model(x.double()), y)
        mean = mean + torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))]) / n
    return (theta1 - theta0) * mean


def test_every_part_agrees_with_brute_force(run, problem):
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    stored = arrays(run)
    weights = torch.from_numpy(lca.open(run).weights[:]).double()
    for t in (0, 1, 17, 63, 64, 99):
        expected = brute_force(problem(), weights[:, t], weights[:, t + 1])
        scale = float(expected.abs().sum())
        assert np.abs(stored["lca"][:, t] - expected.numpy()).sum() < 0.003 * scale


def test_every_array_is_what_the_schema_says(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(batch_size=13, device="cpu"))
    stored, opened = arrays(run), lca.open(run)
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


def test_the_split_decides_whose_loss(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(split="val", device="cpu"))
    opened = lca.open(run)
    assert opened.allocations == ["val"]
    model, (x, y) = problem().model, problem().val
    torch.nn.utils.vector_to_parameters(torch.from_numpy(opened.weights[:, 100]), model.parameters())
    assert summary.loss_end == pytest.approx(float(nn.functional.cross_entropy(model(x), y).detach()), rel=1e-5)


def test_a_smooth_iteration_costs_two_passes(run, problem, monkeypatch):
    passes = []
    original = FullGradient._evaluate
    monkeypatch.setattr(FullGradient, "_evaluate", lambda *a: passes.append(1) or original(*a))
    summary = lca.allocate(
        run, problem(), lca.AllocateConfig(tolerance=1.0, total_tolerance=1.0, audit=0, batch_size=60, device="cpu")
    )
    assert len(passes) == PREFLIGHT + 2 * 100 + 1
    assert summary.gradients_per_iteration == 2


def test_large_steps_are_refined_and_the_limit_is_reported(tmp_path, problem):
    config = lca.TrainConfig(batch_size=20, iterations=20, learning_rate=8.0, momentum=0.9, device="cpu")
    lca.train(problem(), tmp_path / "wild.zarr", config)
    summary = lca.allocate(tmp_path / "wild.zarr", problem(), lca.AllocateConfig(device="cpu"))
    assert summary.refined > 0
    limited = lca.allocate(
        tmp_path / "wild.zarr", problem(), lca.AllocateConfig(name="short", max_intervals=4, device="cpu")
    )
    stored = arrays(tmp_path / "wild.zarr", "short")
    assert limited.unconverged == (stored["status"] == Status.AT_LIMIT).sum() > 0
    assert (stored["intervals"][stored["status"] == Status.AT_LIMIT] == 4).all()
    assert not limited.within_bounds


def test_the_total_is_refined_where_each_iteration_is_within_its_tolerance(tmp_path, problem):
    config = lca.TrainConfig(batch_size=20, iterations=30, learning_rate=1.0, device="cpu")
    lca.train(problem(), tmp_path / "run.zarr", config)
    loose = lca.AllocateConfig(name="loose", batch_size=60, tolerance=10.0, total_tolerance=100.0, device="cpu")
    before = lca.allocate(tmp_path / "run.zarr", problem(), loose)
    total = 0.1 * abs(before.cumulative_residual / before.change)
    after = lca.allocate(
        tmp_path / "run.zarr",
        problem(),
        lca.AllocateConfig(batch_size=60, tolerance=10.0, total_tolerance=total, device="cpu"),
    )
    assert before.refined == 0
    assert 0 < after.refined < 30
    assert abs(after.cumulative_residual) <= total * abs(after.change)
    loose, refined = arrays(tmp_path / "run.zarr", "loose"), arrays(tmp_path / "run.zarr")
    touched = refined["intervals"] > 2
    assert np.array_equal(loose["lca"][:, ~touched], refined["lca"][:, ~touched])
    np.testing.assert_allclose(refined["lca"].sum(0, dtype=np.float64), refined["allocated"], atol=1e-6)
    np.testing.assert_allclose(refined["tensor_lca"].sum(1), refined["allocated"], atol=1e-9)


def test_which_iteration_is_refined_next():
    config = lca.AllocateConfig(total_tolerance=0.01, max_intervals=8)
    loss = np.array([2.0, 1.5, 1.2, 1.0, 1.0])
    intervals, status = np.array([2, 2, 8, 2], np.int16), np.array([1, 1, 2, 1], np.uint8)

    def worst(*residual, status=status, eps=2.0**-23):
        arrays = {"loss": loss, "residual": np.array(residual), "intervals": intervals, "status": status}
        return worst_iteration({**arrays, "allocated": np.diff(loss) + arrays["residual"]}, config, eps)

    assert worst(0.003, 0.003, 0.003, 0.0) is None  # 0.009 of a bound of 0.01
    assert worst(0.02, -0.019, 0.001, 0.0) is None  # they cancel, and the total is what is bounded
    assert worst(0.004, 0.02, 0.5, 0.0) == 1  # 2 is worse, but at the limit
    assert worst(-0.03, 0.002, 0.5, 0.0) == 0
    assert worst(0.0, 0.0, 0.5, 1e-7) is None  # at the limit, and float32's rounding
    assert worst(0.0, 0.0, 0.5, 1e-7, eps=2.0**-52) == 3
    assert worst(0.02, 0.03, 0.0, 0.0, status=np.array([1, 3, 1, 1], np.uint8)) == 0


def test_a_loss_that_becomes_nan_is_a_status(tmp_path, problem):
    model = problem().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(5):
            with torch.no_grad():
                model[0].weight += 0.01 if t != 3 else float("nan")
            recorder.record()
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(device="cpu"))
    stored = arrays(tmp_path / "run.zarr")
    assert stored["status"].tolist() == [1, 1, 1, 3, 3]
    assert np.isnan(stored["lca"][:, 3:]).all()
    assert np.isfinite(stored["lca"][:, :3]).all()
    assert summary.not_finite == 2
    assert not summary.within_bounds


def test_an_interrupted_allocation_goes_on_and_ends_the_same(run, problem, monkeypatch):
    lca.allocate(run, problem(), lca.AllocateConfig(name="whole", audit=0, batch_size=20, device="cpu"))
    passes = []
    original = FullGradient._evaluate

    def stops(self, *arguments):
        passes.append(1)
        if len(passes) == 150:  # in the second block
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", stops)
    with pytest.raises(KeyboardInterrupt):
        lca.allocate(run, problem(), lca.AllocateConfig(audit=0, batch_size=20, device="cpu"))
    assert arrays(run)["blocks"].tolist() == [1, 0]
    assert np.isfinite(arrays(run)["loss"][:64]).all()
    assert np.isnan(arrays(run)["loss"][64:]).all()  # the other block's to write
    assert lca.open(run).allocation("train").n_allocated == 64
    passes.clear()
    lca.allocate(run, problem(), lca.AllocateConfig(audit=0, batch_size=20, device="cpu"))
    assert len(passes) == PREFLIGHT + 2 * 36 + 1
    whole, resumed = arrays(run, "whole"), arrays(run)
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)
    passes.clear()
    assert lca.allocate(run, problem(), lca.AllocateConfig(audit=0, batch_size=20, device="cpu")).within_bounds
    assert passes == []


def test_blocks_are_allocated_in_any_order(tmp_path, problem):
    path, config = tmp_path / "run.zarr", lca.AllocateConfig(device="cpu")
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=150, device="cpu"))
    lca.allocate(path, problem(), config)
    whole = arrays(path)
    allocation = lca.open(path, "r+").allocation("train")
    for lost in (0, 2):
        allocation.undo(lost)
        allocation.lca[:, allocation.iteration_blocks[lost]] = np.nan
    lca.allocate(path, problem(), config)
    for name, values in arrays(path).items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)


def test_the_batch_size_is_chosen_once(run, problem, monkeypatch):
    chosen = iter([7, 11])
    monkeypatch.setattr("lca.probe.fastest_batch_size", lambda *_: next(chosen))
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    assert lca.open(run).allocation("train").attributes["batch_size"] == 7
    lca.allocate(run, problem(), lca.AllocateConfig(batch_size=7, device="cpu"))
    with pytest.raises(UsageError, match="batch_size 7 there and 8 here"):
        lca.allocate(run, problem(), lca.AllocateConfig(batch_size=8, device="cpu"))


def test_with_batchnorm_the_batch_size_is_the_papers_and_recorded(tmp_path, problem):
    torch.manual_seed(0)
    given = problem(model=nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)))
    path = tmp_path / "run.zarr"
    lca.train(given, path, lca.TrainConfig(batch_size=20, iterations=10, device="cpu"))
    buffers = {name: buffer.clone() for name, buffer in given.model.named_buffers()}
    summary = lca.allocate(path, given, lca.AllocateConfig(device="cpu"))
    attributes = lca.open(path).allocation("train").attributes
    assert (attributes["batch_size"], attributes["batchnorm"]) == (5_000, "batch statistics")
    assert summary.within_bounds
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in given.model.named_buffers())


def test_other_options_than_those_of_the_store_are_refused(run, problem):
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu"))
    with pytest.raises(UsageError, match=r"other options: tolerance 0.001 there and 0.01 here"):
        lca.allocate(run, problem(), lca.AllocateConfig(tolerance=0.01, device="cpu"))
    lca.allocate(run, problem(), lca.AllocateConfig(tolerance=0.01, device="cpu"), overwrite=True)


def test_data_that_differ_are_refused(run, problem):
    other = problem()
    other.train[0][0, 0] += 1
    with pytest.raises(LCAError, match="the train split of small differs from the one that .* was recorded with"):
        lca.allocate(run, other)


def test_a_model_that_differs_is_refused(run, problem):
    other = problem(model=nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 3)))
    with pytest.raises(LCAError, match=r"parameter 0 is 0.weight \(9, 2\), 0.weight \(8, 2\) was wanted"):
        lca.allocate(run, other)


def test_an_unfinished_run_is_refused(tmp_path, problem):
    stops = lambda model, batch: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        lca.train(
            lca.Problem(problem().model, stops, problem().train),
            tmp_path / "run.zarr",
            lca.TrainConfig(batch_size=20, iterations=9),
        )
    with pytest.raises(
        LCAError, match=r"is unfinished: it holds 1 of 10 iterates; resume it with lca.train\(…, resume=True\)"
    ):
        lca.allocate(tmp_path / "run.zarr", problem())


def test_a_run_without_iterations_is_refused(tmp_path, problem):
    with lca.Recorder(tmp_path / "run.zarr", problem().model):
        pass
    with pytest.raises(LCAError, match="holds no iteration"):
        lca.allocate(tmp_path / "run.zarr", problem())


def test_a_split_that_is_not_there_is_named(run, problem):
    with pytest.raises(UsageError, match="small has no split 'test'; it has train, val"):
        lca.allocate(run, problem(), lca.AllocateConfig(split="test"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0}, "tolerance is 0"),
        ({"total_tolerance": float("nan")}, "total_tolerance is nan"),
        ({"max_intervals": 12}, "max_intervals is 12; a power of two"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rule": "boole"}, "unknown rule 'boole'; the known ones are simpson, trapezoid, first-order"),
        ({"audit": 1.5}, "audit is 1.5"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        lca.AllocateConfig(**options)
