import shutil

import numpy as np
import pytest
from conftest import small_problem

import lca
from lca.allocation.refinement import find_worst_iteration
from lca.store.allocation_writer import AllocationWriter

CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


def read(path, name="train"):
    allocation = lca.open(path).allocation(name)
    return {array: np.asarray(getattr(allocation, array)[:]) for array in allocation.arrays}


def allocate(run, problem, name, **options):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(name=name, **{**CONFIG, **options}))
    return lca.open(run).allocation(name), summary


def test_total_is_refined_although_every_iteration_meets_its_tolerance(tmp_path, problem):
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
    loose, refined = read(tmp_path / "run.zarr", "loose"), read(tmp_path / "run.zarr")
    touched = refined["intervals"] > 2
    assert np.array_equal(loose["lca"][:, ~touched], refined["lca"][:, ~touched])
    np.testing.assert_allclose(refined["lca"].sum(0, dtype=np.float64), refined["allocated"], atol=1e-6)
    np.testing.assert_allclose(refined["tensor_lca"].sum(1), refined["allocated"], atol=1e-9)


def test_iteration_with_the_largest_residual_is_refined_next():
    config = lca.AllocateConfig(total_tolerance=0.01, max_intervals=8)
    loss = np.array([2.0, 1.5, 1.2, 1.0, 1.0])
    intervals, status = np.array([2, 2, 8, 2], np.int16), np.array([1, 1, 2, 1], np.uint8)

    def worst(*residual, status=status, dtype="float32"):
        arrays = {"loss": loss, "residual": np.array(residual), "intervals": intervals, "status": status}
        return find_worst_iteration({**arrays, "allocated": np.diff(loss) + arrays["residual"]}, config, dtype)

    assert worst(0.003, 0.003, 0.003, 0.0) is None  # the total 0.009 is below the bound 0.01
    assert worst(0.02, -0.019, 0.001, 0.0) is None  # the residuals cancel in the total
    assert worst(0.004, 0.02, 0.5, 0.0) == 1  # iteration 2 is worse, but at the limit
    assert worst(-0.03, 0.002, 0.5, 0.0) == 0
    assert worst(0.0, 0.0, 0.5, 1e-7) is None  # at the limit, or below the rounding error of float32
    assert worst(0.0, 0.0, 0.5, 1e-7, dtype="float64") == 3
    assert worst(0.02, 0.03, 0.0, 0.0, status=np.array([1, 3, 1, 1], np.uint8)) == 0


def test_total_is_refined_when_only_sums_over_tensors_are_kept(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=9, learning_rate=2.0))
    options = {"tolerance": 10.0, "total_tolerance": 1e-4, "keep": "tensors"}
    sums, summary = allocate(tmp_path / "run.zarr", problem, "layers", **options)
    assert summary.refined > 0
    np.testing.assert_allclose(sums.tensor_lca[:].sum(1), sums.allocated[:], atol=1e-9)


REFINED = {"tolerance": 10.0, "total_tolerance": 1e-4}


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    """The path of a run with an allocation "whole", of which some iterations were refined."""
    path = tmp_path_factory.mktemp("refined") / "run.zarr"
    lca.train(small_problem(), path, lca.TrainConfig(batch_size=20, iterations=9, learning_rate=2.0))
    _, summary = allocate(path, small_problem, "whole", **REFINED)
    assert summary.refined > 2
    return path


@pytest.mark.parametrize("fatal", range(1, 16))
def test_allocation_killed_while_refining_ends_with_the_same_values(tmp_path, refined, problem, monkeypatch, fatal):
    """The allocation is killed before each write of the refined iterations in turn."""
    path = shutil.copytree(refined, tmp_path / "run.zarr")
    whole = lca.open(path).allocation("whole")
    writes, inside, original = [], [], (AllocationWriter._write, AllocationWriter.write_iteration)

    def write_iteration(self, *arguments):
        inside.append(1)
        original[1](self, *arguments)
        inside.pop()

    def die(self, *arguments):
        if inside:
            writes.append(1)
            if len(writes) == fatal:
                raise KeyboardInterrupt
        original[0](self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(AllocationWriter, "write_iteration", write_iteration)
        patched.setattr(AllocationWriter, "_write", die)
        with pytest.raises(KeyboardInterrupt):
            allocate(path, problem, "killed", **REFINED)
    killed, _ = allocate(path, problem, "killed", **REFINED)
    for name in whole.arrays:
        np.testing.assert_array_equal(getattr(killed, name)[:], getattr(whole, name)[:], err_msg=name)
    assert "refining" not in killed.attributes


def test_each_refinement_uses_the_values_of_the_previous_one(tmp_path, problem, monkeypatch):
    """The arrays from which the next iteration is chosen equal those in the store."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=9, learning_rate=2.0))
    chosen = []

    def choose(arrays, config, dtype):
        stored = lca.open(path).allocation("total")
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, getattr(stored, name)[:], err_msg=name)
        chosen.append(find_worst_iteration(arrays, config, dtype))
        return chosen[-1]

    monkeypatch.setattr("lca.allocation.refinement.find_worst_iteration", choose)
    allocate(path, problem, "total", tolerance=10.0, total_tolerance=1e-4)
    assert len(chosen) > 2
    assert chosen[-1] is None
