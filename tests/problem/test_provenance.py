"""L depends on tensors that are not recorded: frozen parameters and buffers must be those of the training."""

import hashlib
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import small_problem
from datasets import Iterated, Listed, X, Y
from features import Features, trained
from torch import nn

import lca
from lca.errors import LCAError
from lca.model.parameters import get_fixed_tensors
from lca.problem import provenance
from lca.problem import streaming as stream
from lca.problem.provenance import describe_fixed
from lca.problem.streaming import StreamedDataset, read_dataset

compute_digest = partial(provenance.compute_digest, split="train")

CPU = lca.AllocateConfig(device="cpu", audit=0)


def test_digest_depends_on_names_but_not_on_their_order():
    assert compute_digest({"x": X, "y": Y}) == compute_digest({"y": Y, "x": X})
    assert compute_digest({"x": X, "y": X + 1}) != compute_digest({"y": X, "x": X + 1})
    assert compute_digest((X, Y)) == compute_digest([X, Y])
    assert compute_digest((X.bfloat16(),)) != compute_digest(((X + 1).bfloat16(),))
    of_x = hashlib.sha256(b"torch.float32(2,)" + X.numpy().tobytes()).hexdigest()
    of_y = hashlib.sha256(b"torch.int64()" + Y.numpy().tobytes()).hexdigest()
    expected = hashlib.sha256(f"[11, ('/0', '{of_x}'), ('/1', '{of_y}')]".encode())
    assert compute_digest((X, Y)) == expected.hexdigest()


@pytest.mark.parametrize("kind", [Listed, Iterated])
def test_data_in_memory_and_streamed_have_the_same_digest(kind, monkeypatch):
    monkeypatch.setattr(stream, "READ_AT_ONCE", 4)
    in_memory = read_dataset(kind((X, Y)))
    assert torch.equal(in_memory["x"], X)
    monkeypatch.setattr(stream, "HOST_SHARE", 0.0)
    assert isinstance(read_dataset(kind((X, Y))), StreamedDataset)
    assert compute_digest(read_dataset(kind((X, Y)))) == compute_digest(in_memory) == compute_digest({"x": X, "y": Y})
    assert compute_digest(read_dataset(kind((X + 1, Y)))) != compute_digest(in_memory)


@pytest.mark.parametrize("frozen", [True, False])
def test_same_fixed_tensors_give_the_same_loss(tmp_path, frozen):
    given = trained(tmp_path / "run.zarr", frozen)
    torch.nn.utils.vector_to_parameters(
        torch.from_numpy(lca.open(tmp_path / "run.zarr").weights[:, 0]), given.model.out.parameters()
    )
    expected = float(given.losses(given.model, given.train).mean().detach())
    again = small_problem(model=Features(0, frozen))
    assert lca.allocate(tmp_path / "run.zarr", again, CPU).loss_start == pytest.approx(expected, rel=1e-6)


def test_allocation_with_changed_frozen_parameters_raises(tmp_path):
    trained(tmp_path / "run.zarr", frozen=True)
    other = small_problem(model=Features(1, frozen=True))
    for function in (lca.allocate, lca.check):
        message = r"frozen parameter random has changed since .* \(1 of 1 frozen parameters differ\).* Pass the model"
        with pytest.raises(LCAError, match=message):
            function(tmp_path / "run.zarr", other, CPU)
    assert lca.open(tmp_path / "run.zarr").allocations == []


def test_resuming_with_changed_frozen_parameters_raises(tmp_path):
    trained(tmp_path / "run.zarr", frozen=True)
    with pytest.raises(LCAError, match="the frozen parameter random has changed"):
        lca.Recorder(tmp_path / "run.zarr", Features(1, frozen=True), resume=True).__enter__()


def test_fixed_tensors_can_have_any_layout_and_dtype(tmp_path):
    """Sparse, 8-bit, complex, scalar and empty tensors all have a digest and remain unchanged."""

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.out = nn.Linear(2, 3)
            self.register_buffer("adjacency", torch.eye(2).to_sparse())
            self.register_buffer("small", torch.ones(3).to(torch.float8_e4m3fn))
            self.register_buffer("wave", torch.ones(3, dtype=torch.complex64))
            self.register_buffer("none", torch.zeros(0))
            self.register_buffer("one", torch.tensor(True))

        def forward(self, x):
            return self.out((self.adjacency @ x.T).T)

    given = small_problem(model=Graph())
    assert len(set(describe_fixed(given.model).values())) == 5
    with lca.Recorder(tmp_path / "run.zarr", given.model) as recorder:
        with torch.no_grad():
            given.model.out.weight *= 1.5
        recorder.record()
    assert lca.allocate(tmp_path / "run.zarr", given, CPU).within_bounds
    assert given.model.adjacency.layout == torch.sparse_coo
    assert given.model.small.dtype == torch.float8_e4m3fn
    assert describe_fixed(given.model) == describe_fixed(Graph())
    other = Graph()
    other.adjacency = 2 * torch.eye(2).to_sparse()
    assert lca.check(tmp_path / "run.zarr", small_problem(model=other), CPU).notes[0].startswith("the buffer adjacency")


def test_changed_buffers_are_noted(tmp_path):
    """Training advances a counter. The problem is unknown, so nothing shows that the loss does not depend on it."""
    given = trained(tmp_path / "run.zarr", frozen=False)
    other = small_problem(model=Features(1, frozen=False))
    notes = lca.check(tmp_path / "run.zarr", other, CPU).notes
    assert notes == [
        "the buffer random changed since recording began. The allocated loss is computed with the current values.",
        "training changed the buffer n. The allocated loss is computed with the initial values.",
    ]
    found = []
    lca.allocate(tmp_path / "run.zarr", other, CPU, on_preflight=lambda checked: found.extend(checked.remarks))
    assert found == notes == lca.open(tmp_path / "run.zarr").allocation("train").attributes["remarks"]
    (note,) = lca.check(tmp_path / "run.zarr", given, CPU).notes  # the trained model itself, whose counter has advanced
    assert note == "training changed the buffer n. The allocated loss is computed with the final values."


def test_problem_with_another_name_is_noted(tmp_path):
    trained_on = replace(small_problem(), name="mine.py:one")
    lca.train(trained_on, tmp_path / "run.zarr", lca.TrainConfig(iterations=2, batch_size=20, device="cpu"))
    (note,) = lca.check(tmp_path / "run.zarr", replace(trained_on, name="mine.py:two"), CPU).notes
    assert note == "the run was trained on mine.py:one, but the allocated loss is that of mine.py:two"
    for same in (trained_on, replace(trained_on, name="custom")):
        assert lca.check(tmp_path / "run.zarr", same, CPU).notes == []


def test_running_statistics_and_wrappers_do_not_change_the_digest():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), Features(0, frozen=True))
    assert list(get_fixed_tensors(model)) == ["2.random", "2.n"]
    before = describe_fixed(model)
    model[1].running_mean += 1
    assert describe_fixed(nn.DataParallel(model)) == before
    model[2].random.data += 1e-7
    after = describe_fixed(model)
    assert {name for name in after if after[name] != before[name]} == {"2.random"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_are_not_finite_are_refused(problem, tmp_path, value):
    given = problem()
    given.split("train")[0][17, 1] = value
    message = "tensor 0 of the train split contains values that are NaN or infinite, first in example 17"
    with pytest.raises(LCAError, match=message):
        lca.train(given, tmp_path / "run.zarr", iterations=2, batch_size=20, device="cpu")
    assert not (tmp_path / "run.zarr").exists()
