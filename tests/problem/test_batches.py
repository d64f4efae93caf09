"""Batches of any shape: cut, picked and joined alike; trained on and allocated with the same result."""

import hashlib
import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import small_problem
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

import lca
from lca.errors import LCAError, UsageError
from lca.problem.batches import concatenate, get_tensors, length, map_tensors, split_batch, take
from lca.problem.provenance import digest
from lca.problem.streaming import read_dataset


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


X, Y = torch.arange(10.0).reshape(5, 2), torch.arange(5)
SHAPES = [X, (X, Y), [X, Y], {"x": X, "y": Y}, {"inputs": (X, {"mask": X > 3}), "y": Y}, Pair(X, Y)]


@pytest.mark.parametrize("batch", SHAPES, ids=lambda batch: type(batch).__name__)
def test_every_shape_is_cut_picked_and_joined_alike(batch):
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


class TwoInputs(nn.Module):
    """Tied weights, two inputs, and a layer that both go through."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embed, self.side = nn.Linear(2, 8), nn.Linear(2, 8)
        self.out = nn.Linear(8, 8)
        self.back = nn.Linear(8, 3)
        self.side.weight = self.embed.weight

    def forward(self, a, b):
        return self.back(torch.tanh(self.out(torch.tanh(self.embed(a) + self.side(b)))))


def of_dict(model, batch):
    logits = model(batch["inputs"]["a"], batch["inputs"]["b"])
    return nn.functional.cross_entropy(logits, batch["y"], reduction="none")


def of_tuple(model, batch):
    a, b, y = batch
    return nn.functional.cross_entropy(model(a, b), y, reduction="none")


def both(split):
    x, y = split
    return {"inputs": {"a": x, "b": x.flip(1)}, "y": y}, (x, x.flip(1), y)


@pytest.mark.parametrize("options", [{}, {"by_class": True}, {"examples": 31}], ids=["whole", "by-class", "examples"])
def test_dict_batches_of_two_inputs_give_what_tuples_give(tmp_path, options):
    given = small_problem()
    problems = [
        lca.Problem(TwoInputs(), losses, train, val, groups=groups)
        for losses, train, val, groups in zip(
            (of_dict, of_tuple),
            both(given.train),
            both(given.val),
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
    np.testing.assert_array_equal(found[0].run.weights[:], found[1].run.weights[:])
    np.testing.assert_array_equal(found[0].lca[:], found[1].lca[:])
    assert len(found[0].run.parameters) == 7  # the tied weight once


class Streamed(IterableDataset):
    def __iter__(self):
        return iter([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)])


def test_a_data_set_is_read_in_its_order():
    assert all(torch.equal(a, b) for a, b in zip(read_dataset(TensorDataset(X, Y)), (X, Y), strict=True))
    found = read_dataset(Streamed())
    assert torch.equal(found["x"], X)
    assert torch.equal(found["y"], Y)
    listed = read_dataset([(x, int(y)) for x, y in zip(X, Y, strict=True)])
    assert torch.equal(listed[1], Y)


class Shifted(TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x - 100, y


class OfTensors(torch.utils.data.Dataset):
    """Whose attribute `tensors` is something else."""

    tensors = [torch.zeros(3)] * 4

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"y": i, "x": self.tensors[i] + i} if i % 2 else {"x": self.tensors[i] + i, "y": i}


def test_a_data_set_says_itself_what_its_examples_are():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(read_dataset(Shifted(X, Y))[0], X - 100)
    found = read_dataset(OfTensors())
    assert found["x"][:, 0].tolist() == found["y"].tolist() == [0, 1, 2, 3]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": nn.Linear}, "model is the class Linear; a torch module, such as Net"),
        ({"losses": None}, "losses is nothing; a function losses"),
        ({"group_names": ["a", "b"]}, 'group_names is a list; a dict, such as {0: "cat"'),
    ],
)
def test_what_is_no_problem_is_told(change, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        replace(small_problem(), **change)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (lambda m, b: (m(b[0])[:, :1] - b[1]) ** 2, r"Does a prediction of shape \(B, 1\) meet a target of shape"),
        (lambda m, b: m(b[0])[:, :1], r"Take losses\.squeeze\(-1\)"),
        (lambda m, b: m(b[0]), r"For a loss per token give Problem\(…, weigh=…\) too; else take their mean"),
        (lambda m, b: m(b[0]).mean(), 'reduction="none"'),
        (lambda m, b: None, "gave nothing"),
        (lambda m, b: m(b[0])[:, 0].detach(), "without a gradient: they were detached"),
    ],
)
def test_losses_that_are_none_are_told_with_what_to_do(tmp_path, losses, words):
    given = replace(small_problem(), losses=losses)
    with pytest.raises(LCAError, match=words):
        lca.train(given, tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=2, device="cpu"))


def test_parts_of_the_same_name_are_joined():
    parts = [{"x": X[:2], "y": Y[:2]}, {"y": Y[2:], "x": X[2:]}]
    assert torch.equal(concatenate(parts)["x"], X)


def test_data_are_known_by_their_names_and_not_by_their_order():
    assert digest({"x": X, "y": Y}) == digest({"y": Y, "x": X})
    assert digest({"x": X, "y": X + 1}) != digest({"y": X, "x": X + 1})
    assert digest((X, Y)) == digest([X, Y])
    assert digest((X.bfloat16(),)) != digest(((X + 1).bfloat16(),))
    of_x = hashlib.sha256(b"torch.float32(2,)" + X.numpy().tobytes()).hexdigest()
    of_y = hashlib.sha256(b"torch.int64()" + Y.numpy().tobytes()).hexdigest()
    expected = hashlib.sha256(f"[5, ('/0', '{of_x}'), ('/1', '{of_y}')]".encode())
    assert digest((X, Y)) == expected.hexdigest()


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([("a", 1), ("b", 2)], r"the examples of train cannot be put together to tensors \(a str\)"),
        ([], "train is nothing"),
        ([torch.zeros(2), torch.zeros(3)], r"the examples of train cannot be put together to tensors \("),
        ([object(), object()], r"the examples of train cannot be put together to tensors \("),
    ],
)
def test_a_data_set_that_is_no_tensors_is_told(examples, message):
    class Listed(torch.utils.data.Dataset):
        def __len__(self):
            return len(examples)

        def __getitem__(self, i):
            return examples[i]

    with pytest.raises(UsageError, match=message):
        lca.Problem(nn.Linear(2, 2), train=Listed())


def test_a_problem_takes_a_data_set(tmp_path):
    given = small_problem()
    with_data_set = lca.Problem(given.model, train=TensorDataset(*given.train), val=TensorDataset(*given.val))
    assert all(torch.equal(a, b) for a, b in zip(with_data_set.train, given.train, strict=True))
    lca.train(with_data_set, tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=5, device="cpu"))
    lca.allocate(tmp_path / "run.zarr", given, lca.AllocateConfig(batch_size=20, audit=0, device="cpu"))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((), r"train is nothing; tensors, such as \(x, y\) or"),
        (np.ones(3), "train holds a ndarray; tensors, such as"),
        ({"x": X, "name": "a"}, "train holds a str; tensors"),
        ((X, torch.tensor(1.0)), "train is a tuple; tensors"),
        ({"x": X, "y": Y[:3]}, "the tensors of train hold 5 and 3 examples"),
        ((torch.zeros(0, 2),), "hold 0 examples"),
    ],
)
def test_other_data_are_refused(train, message):
    with pytest.raises(UsageError, match=message):
        lca.Problem(nn.Linear(2, 2), train=train)


def test_a_loss_of_another_shape_is_told_for_dicts_too(tmp_path):
    problem = lca.Problem(nn.Linear(2, 2), lambda model, batch: model(batch["x"]).mean(), train={"x": X})
    with pytest.raises(LCAError, match=r"for a batch of 4 examples; one loss per example, shape \(4,\), was wanted"):
        lca.train(problem, tmp_path / "run.zarr", lca.TrainConfig(batch_size=4, iterations=1, device="cpu"))
