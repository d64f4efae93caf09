from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_problem
from datasets import Iterated, Listed, X, Y, losses
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    default_collate,
)

import lca
from lca.allocation.full_gradient import FullGradient
from lca.allocation.pieces import Pieces
from lca.errors import LCAError
from lca.model.parameters import flatten
from lca.problem import streaming as stream
from lca.problem.batches import get_tensors, length
from lca.problem.objective import Objective, prepare
from lca.problem.streaming import StreamedDataset, read_dataset

CPU = torch.device("cpu")


@pytest.fixture
def no_memory(monkeypatch):
    """Pretend that no dataset fits in memory."""
    monkeypatch.setattr(stream, "HOST_SHARE", 0.0)


def whole(batches):
    return [torch.cat(parts) for parts in zip(*(get_tensors(batch) for batch in batches), strict=True)]


class Fewer(IterableDataset):
    """A dataset that yields one example fewer in every pass."""

    n = 12

    def __iter__(self):
        self.n -= 1
        return iter([{"x": X[i], "y": Y[i]} for i in range(self.n)])


def test_pass_with_missing_examples_is_reported(no_memory):
    streamed = read_dataset(Fewer())
    assert len(streamed) == 11
    model = nn.Linear(2, 3)
    with (
        FullGradient(Objective(model, losses, streamed), 4) as full,
        pytest.raises(LCAError, match="the number of examples in a pass: expected 11, found 10"),
    ):
        full(full.theta)
    dropping = DataLoader(Listed((X, Y)), collate_fn=lambda examples: default_collate(examples[:3]))
    with (
        FullGradient(Objective(model, losses, read_dataset(dropping)), 4) as full,
        pytest.raises(
            LCAError,
            match="the number of examples in a pass: expected 11, found 9. .* its collate_fn must keep them all",
        ),
    ):
        full(full.theta)


@pytest.mark.parametrize("options", [{}, {"by_class": True}, {"examples": 31}], ids=["whole", "by-class", "examples"])
@pytest.mark.parametrize("kind", [Listed, Iterated])
def test_streamed_split_equals_a_split_in_memory(tmp_path, kind, options, monkeypatch):
    given = small_problem()
    x, y = given.train
    in_memory = replace(
        given, losses=losses, train={"x": x, "y": y}, val=None, groups=lambda batch: batch["y"], correct=None
    )
    path = tmp_path / "run.zarr"
    lca.train(in_memory, path, lca.TrainConfig(batch_size=20, iterations=12, learning_rate=0.1, device="cpu"))
    lca.allocate(path, in_memory, lca.AllocateConfig(batch_size=16, device="cpu", **options))
    monkeypatch.setattr(stream, "HOST_SHARE", 0.0)
    streamed = replace(in_memory, train=kind((x, y)))
    assert isinstance(streamed.train, StreamedDataset)
    lca.allocate(path, streamed, lca.AllocateConfig(batch_size=16, device="cpu", name="streamed", **options))
    a, b = (lca.open(path).allocation(name) for name in ("train", "streamed"))
    np.testing.assert_allclose(b.lca[:], a.lca[:], atol=1e-7)
    np.testing.assert_allclose(b.loss[:], a.loss[:], rtol=1e-6)
    if "by_class" in options:
        np.testing.assert_allclose(b.class_lca[:], a.class_lca[:], atol=1e-6)
        np.testing.assert_allclose(b.class_lca[:].sum(1), b.tensor_lca[:], atol=1e-7)
    assert b.attributes["examples"] == a.attributes["examples"]


def test_data_on_another_device_are_copied_to_the_model(monkeypatch):
    """This happens if a split does not fit on a CUDA device. Here, a stub replaces the copy."""
    given = small_problem()
    theta = flatten(given.model)
    with FullGradient(Objective(given.model, given.losses, given.train), 16) as full:
        expected = full(theta)
    objective = prepare(given, "train", CPU)
    copied = []

    def copy(items, device):
        for batch, classes in items:
            copied.append(length(batch))
            yield batch, classes

    monkeypatch.setattr("lca.allocation.pieces.prefetch", copy)
    monkeypatch.setattr(Pieces, "are_on_device", False)
    with FullGradient(objective, 16) as full:
        found = full(theta)
    assert copied == [16, 16, 16, 12]
    assert torch.equal(found.gradient, expected.gradient)


def test_invalid_weights_are_reported():
    given = small_problem()
    for weigh, words in (
        (
            lambda batch: batch[1] - 1,
            "expected no negative weight and a finite sum above 0, found the sum .* and the minimum -1",
        ),
        (lambda batch: 0 * batch[1], "found the sum 0 "),
        (
            lambda batch: batch[1][:5],
            r"for a batch of 60 examples: expected one weight per example.*, found a tensor of shape \(5,\)",
        ),
        (lambda batch: 1.0, "found a float"),
    ):
        with pytest.raises(LCAError, match=words):
            FullGradient(Objective(given.model, given.losses, given.train, weigh=weigh), 16).__enter__()
