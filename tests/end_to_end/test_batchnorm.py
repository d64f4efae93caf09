"""A loss that depends on who shares a batch: the partition decides it, and nothing else does."""

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
    """A run of digits-resnet of 70 iterations, two blocks, of which eight iterations are allocated as "train"."""
    path = tmp_path_factory.mktemp("batchnorm") / "run.zarr"
    lca.train(lca.load("digits-resnet"), path, lca.TrainConfig(iterations=70, device="cpu"))
    lca.allocate(path, lca.load("digits-resnet"), CONFIG)
    return path


def arrays(path, name):
    allocation = lca.open(path).allocation(name)
    return {array: getattr(allocation, array)[:] for array in allocation.arrays}


def test_it_conserves(digits):
    stored = {name: values[:8] for name, values in arrays(digits, "train").items() if name not in ("lca", "blocks")}
    assert (stored["status"] == 1).all()
    assert (abs(stored["residual"]) <= 1e-3).all()
    sums = lca.open(digits).allocation("train").lca[:, :8].sum(0, dtype=np.float64)
    np.testing.assert_allclose(sums, stored["allocated"], atol=1e-5)


def test_the_loss_is_that_of_the_recorded_partition(digits):
    """By hand: batches of 500 in index order, each normalised by its own statistics, in float64."""
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


def test_the_gradient_is_that_of_this_very_loss(digits):
    """By central differences in float64, along directions that no example's own loss has."""
    problem = lca.load("digits-resnet")
    model, (x, y) = problem.model.double(), problem.scale(problem.train)
    theta = torch.from_numpy(lca.open(digits).weights[:, 20]).double()
    generator = torch.Generator().manual_seed(0)
    with FullGradient(Objective(model, problem.losses, (x[:300].double(), y[:300])), 100) as full:
        for _ in range(3):
            direction = torch.randn(len(theta), generator=generator, dtype=torch.float64) / len(theta) ** 0.5
            slope = (full(theta + 1e-6 * direction).loss - full(theta - 1e-6 * direction).loss) / 2e-6
            torch.testing.assert_close(slope, full(theta).gradient @ direction, rtol=1e-4, atol=1e-7)


def test_the_buffers_are_bit_identical_before_and_after(digits):
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


def test_another_partition_is_another_loss_and_is_refused_for_the_same_allocation(digits):
    other = replace(CONFIG, batch_size=750)
    with pytest.raises(UsageError, match="batch_size: stored 500, requested 750"):
        lca.allocate(digits, lca.load("digits-resnet"), other)
    lca.allocate(digits, lca.load("digits-resnet"), replace(other, name="other"))
    assert abs(lca.open(digits).allocation("other").loss[0] - arrays(digits, "train")["loss"][0]) > 1e-5


def test_the_memory_of_the_machine_does_not_decide(digits, monkeypatch):
    monkeypatch.setattr(objective_module, "SCALED_SHARE", 0.0)  # bytes stay bytes, and are scaled batch by batch
    lca.allocate(digits, lca.load("digits-resnet"), replace(CONFIG, name="small"))
    for name, values in arrays(digits, "train").items():
        np.testing.assert_array_equal(values, arrays(digits, "small")[name], err_msg=name)


def test_where_the_partition_does_not_fit_it_is_refused_and_not_made_smaller(digits, monkeypatch):
    monkeypatch.setattr("lca.allocation.batch_size.get_memory_bytes", lambda device: 10**6)
    unasked = replace(CONFIG, batch_size=None, name="unasked")
    with pytest.raises(
        LCAError, match="the activations of a batch of 1,500 examples take .* never made smaller without being asked"
    ):
        lca.allocate(digits, lca.load("digits-resnet"), unasked)
    assert "unasked" not in lca.open(digits).allocations
    assert lca.allocate(digits, lca.load("digits-resnet"), CONFIG).iterations == 8  # finished: only summed up
    monkeypatch.undo()
    lca.allocate(digits, lca.load("digits-resnet"), unasked)
    assert lca.open(digits).allocation("unasked").attributes["batch_size"] == 5_000


def test_the_number_of_workers_does_not_decide(digits):
    options = ["--examples", "300", "--batch-size", "100", "--audit", "0", "--device", "cpu"]
    launchers = {"one": [], "two": ["-m", "torch.distributed.run", "--nproc-per-node=2"]}
    for name, launcher in launchers.items():
        command = [sys.executable, *launcher, "-m", "lca", "allocate", str(digits), "--name", name, *options]
        same_threads = {**os.environ, "OMP_NUM_THREADS": str(max(2, count_cores()) // 2)}
        done = subprocess.run(command, capture_output=True, text=True, env=same_threads, check=False)
        assert done.returncode == 0, done.stderr
    for name, values in arrays(digits, "one").items():
        np.testing.assert_array_equal(values, arrays(digits, "two")[name], err_msg=name)
