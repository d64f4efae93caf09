"""BatchNorm: the loss depends on the partition into batches, and on nothing else."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError, UsageError
from lca.model.parameters import flatten
from lca.problem import objective as objective_module
from lca.problem.objective import Objective
from lca.runtime.workers import count_cores

CONFIG = lca.AllocateConfig(batch_size=500, device="cpu", iterations="0:8", audit=0)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run of digits-resnet of 70 iterations (two blocks) with an allocation "train" of the first eight."""
    path = tmp_path_factory.mktemp("batchnorm") / "run.zarr"
    lca.train(lca.load("digits-resnet"), path, lca.TrainConfig(iterations=70, device="cpu"))
    lca.allocate(path, lca.load("digits-resnet"), CONFIG)
    return path


def read_arrays(path, name):
    allocation = lca.open(path).allocation(name)
    return {array: getattr(allocation, array)[:] for array in allocation.arrays}


def test_lca_sums_to_the_loss_change(digits):
    stored = {
        name: values[:8] for name, values in read_arrays(digits, "train").items() if name not in ("lca", "blocks")
    }
    assert (stored["status"] == 1).all()
    assert (abs(stored["residual"]) <= 1e-3).all()
    sums = lca.open(digits).allocation("train").lca[:, :8].sum(0, dtype=np.float64)
    np.testing.assert_allclose(sums, stored["allocated"], atol=1e-5)


def test_loss_equals_the_loss_of_the_recorded_partition(digits):
    """The expected loss uses batches of 500 in index order, each normalized by its own statistics, in float64."""
    run, problem = lca.open(digits), lca.load("digits-resnet")
    allocation, model = run.allocation("train"), problem.model.double().train()
    x, y = problem.scale(problem.train)
    assert (allocation.attributes["batch_size"], allocation.attributes["batchnorm"]) == (500, "batch statistics")
    for t in (0, 3, 8):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(run.weights[:, t]).double(), model.parameters())
        parts = [
            nn.functional.cross_entropy(model(x[i : i + 500].double()), y[i : i + 500], reduction="sum")
            for i in range(0, 1500, 500)
        ]
        assert allocation.loss[t] == pytest.approx(float(sum(parts).detach()) / 1500, rel=1e-5)


def test_gradient_agrees_with_central_differences(digits):
    """The directions are random, so that the dependence between the examples of a batch matters."""
    problem = lca.load("digits-resnet")
    model, (x, y) = problem.model.double(), problem.scale(problem.train)
    theta = torch.from_numpy(lca.open(digits).weights[:, 20]).double()
    generator = torch.Generator().manual_seed(0)
    with FullGradient(Objective(model, problem.losses, (x[:300].double(), y[:300])), 100) as full:
        for _ in range(3):
            direction = torch.randn(len(theta), generator=generator, dtype=torch.float64) / len(theta) ** 0.5
            slope = (full(theta + 1e-6 * direction).loss - full(theta - 1e-6 * direction).loss) / 2e-6
            torch.testing.assert_close(slope, full(theta).gradient @ direction, rtol=1e-4, atol=1e-7)


def test_buffers_are_unchanged_after_allocation(digits):
    problem = lca.load("digits-resnet")
    for buffer in problem.model.buffers():
        buffer += 3
    before = {name: buffer.clone() for name, buffer in problem.model.named_buffers()}
    theta = flatten(problem.model)
    lca.allocate(digits, problem, replace(CONFIG, name="buffers"))
    assert len(before) == 3 * 7
    for name, buffer in problem.model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert torch.equal(flatten(problem.model), theta)


def test_other_partition_changes_the_loss_and_needs_a_new_allocation(digits):
    other = replace(CONFIG, batch_size=750)
    with pytest.raises(UsageError, match="batch_size: stored 500, requested 750"):
        lca.allocate(digits, lca.load("digits-resnet"), other)
    lca.allocate(digits, lca.load("digits-resnet"), replace(other, name="other"))
    assert abs(lca.open(digits).allocation("other").loss[0] - read_arrays(digits, "train")["loss"][0]) > 1e-5


def test_result_does_not_depend_on_available_memory(digits, monkeypatch):
    monkeypatch.setattr(objective_module, "SCALED_SHARE", 0.0)  # uint8 data is scaled batch by batch
    lca.allocate(digits, lca.load("digits-resnet"), replace(CONFIG, name="small"))
    for name, values in read_arrays(digits, "train").items():
        np.testing.assert_array_equal(values, read_arrays(digits, "small")[name], err_msg=name)


def test_partition_too_large_for_memory_raises_instead_of_shrinking(digits, monkeypatch):
    monkeypatch.setattr("lca.allocation.batch_size.get_memory_bytes", lambda device: 10**6)
    default_size = replace(CONFIG, batch_size=None, name="default")
    with pytest.raises(
        LCAError, match="the activations of a batch of 1,500 examples need .* The batch size is not reduced"
    ):
        lca.allocate(digits, lca.load("digits-resnet"), default_size)
    assert "default" not in lca.open(digits).allocations
    assert (
        lca.allocate(digits, lca.load("digits-resnet"), CONFIG).iterations == 8
    )  # already complete, so only summarized
    monkeypatch.undo()
    lca.allocate(digits, lca.load("digits-resnet"), default_size)
    assert lca.open(digits).allocation("default").attributes["batch_size"] == 5_000


def test_result_does_not_depend_on_the_number_of_workers(digits):
    """Both blocks have some of the iterations, and each of the two workers allocates one."""
    options = ["--examples", "300", "--batch-size", "100", "--audit", "0", "--device", "cpu", "--iterations", "58:70"]
    launchers = {"one": [], "two": ["-m", "torch.distributed.run", "--nproc-per-node=2"]}
    for name, launcher in launchers.items():
        command = [sys.executable, *launcher, "-m", "lca", "allocate", str(digits), "--name", name, *options]
        same_threads = {**os.environ, "OMP_NUM_THREADS": str(max(2, count_cores()) // 2)}
        done = subprocess.run(command, capture_output=True, text=True, env=same_threads, check=False)
        assert done.returncode == 0, done.stderr
    assert np.isfinite(read_arrays(digits, "one")["lca"][:, 58:]).all()
    for name, values in read_arrays(digits, "one").items():
        np.testing.assert_array_equal(values, read_arrays(digits, "two")[name], err_msg=name)
