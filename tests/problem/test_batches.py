"""Batches of any structure are split, indexed and concatenated, and give the same training and allocation."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import small_problem
from torch import nn

import lca
from lca.problem.batches import concatenate, get_tensors, length, map_tensors, split_batch, take

X, Y = torch.arange(10.0).reshape(5, 2), torch.arange(5)


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


SHAPES = [X, (X, Y), [X, Y], {"x": X, "y": Y}, {"inputs": (X, {"mask": X > 3}), "y": Y}, Pair(X, Y)]


class TwoInputs(nn.Module):
    """A network with two inputs, whose first layers share their weight. Their outputs are added."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embed, self.side = nn.Linear(2, 8), nn.Linear(2, 8)
        self.out = nn.Linear(8, 8)
        self.back = nn.Linear(8, 3)
        self.side.weight = self.embed.weight

    def forward(self, a, b):
        return self.back(torch.tanh(self.out(torch.tanh(self.embed(a) + self.side(b)))))


def dict_losses(model, batch):
    logits = model(batch["inputs"]["a"], batch["inputs"]["b"])
    return nn.functional.cross_entropy(logits, batch["y"], reduction="none")


def tuple_losses(model, batch):
    a, b, y = batch
    return nn.functional.cross_entropy(model(a, b), y, reduction="none")


def make_both(split):
    x, y = split
    return {"inputs": {"a": x, "b": x.flip(1)}, "y": y}, (x, x.flip(1), y)


@pytest.mark.parametrize("batch", SHAPES, ids=lambda batch: type(batch).__name__)
def test_nested_batches_are_split_indexed_and_concatenated(batch):
    assert length(batch) == 5
    parts = split_batch(batch, 2)
    assert [length(part) for part in parts] == [2, 2, 1]
    for part in parts:
        assert type(part) is type(batch)
    whole = concatenate(parts)
    assert all(torch.equal(a, b) for a, b in zip(get_tensors(whole), get_tensors(batch), strict=True))
    index = torch.tensor([4, 0])
    for some, all_ in zip(get_tensors(take(batch, index)), get_tensors(batch), strict=True):
        assert torch.equal(some, all_[index])
    assert all(x.dtype == torch.float64 for x in get_tensors(map_tensors(batch, torch.Tensor.double)))


@pytest.mark.parametrize("options", [{}, {"by_class": True}, {"examples": 31}], ids=["whole", "by-class", "examples"])
def test_dict_batches_and_tuple_batches_give_the_same_allocation(tmp_path, options):
    given = small_problem()
    problems = [
        lca.Problem(TwoInputs(), losses, train, val, groups=groups)
        for losses, train, val, groups in zip(
            (dict_losses, tuple_losses),
            make_both(given.train),
            make_both(given.val),
            (lambda batch: batch["y"], lambda batch: batch[2]),
            strict=True,
        )
    ]
    found = []
    for i, problem in enumerate(problems):
        path = tmp_path / f"{i}.zarr"
        lca.train(problem, path, lca.TrainConfig(batch_size=20, iterations=12, learning_rate=0.1, device="cpu"))
        lca.allocate(path, problem, lca.AllocateConfig(batch_size=16, audit=0, device="cpu", **options))
        found.append(lca.open(path).allocation("train"))
    np.testing.assert_array_equal(*(lca.open(allocation.run_path).weights[:] for allocation in found))
    np.testing.assert_array_equal(found[0].lca[:], found[1].lca[:])
    assert len(found[0].parameters) == 7  # the tied weight counts once


def test_dicts_are_concatenated_by_key():
    parts = [{"x": X[:2], "y": Y[:2]}, {"y": Y[2:], "x": X[2:]}]
    assert torch.equal(concatenate(parts)["x"], X)
