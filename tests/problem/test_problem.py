import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_problem
from torch import nn
from torch.utils.data import TensorDataset

import lca
from lca.errors import UsageError

X, Y = torch.arange(10.0).reshape(5, 2), torch.arange(5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": nn.Linear}, "model: expected a torch module, such as Net(), found the class Linear"),
        ({"losses": None}, "losses: expected a function losses(model, batch), found None"),
        ({"group_names": ["a", "b"]}, 'group_names: expected a dict, such as {0: "cat", 1: "dog"}, found a list'),
    ],
)
def test_invalid_fields_are_reported(change, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        replace(small_problem(), **change)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([("a", 1), ("b", 2)], r"the examples of the train split cannot be collated into tensors \(a str\)"),
        ([], "the train split: expected tensors, .*, found nothing"),
        ([torch.zeros(2), torch.zeros(3)], r"the examples of the train split cannot be collated into tensors \("),
        ([object(), object()], r"the examples of the train split cannot be collated into tensors \("),
    ],
)
def test_dataset_that_cannot_be_collated_is_reported(examples, message):
    class Listed(torch.utils.data.Dataset):
        def __len__(self):
            return len(examples)

        def __getitem__(self, i):
            return examples[i]

    with pytest.raises(UsageError, match=message):
        lca.Problem(nn.Linear(2, 2), train=Listed())


def test_dataset_is_equivalent_to_tensors(tmp_path):
    given = small_problem()
    with_dataset = lca.Problem(given.model, train=TensorDataset(*given.train), val=TensorDataset(*given.val))
    assert all(torch.equal(a, b) for a, b in zip(with_dataset.train, given.train, strict=True))
    lca.train(with_dataset, tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=5, device="cpu"))
    lca.allocate(tmp_path / "run.zarr", given, lca.AllocateConfig(batch_size=20, audit=0, device="cpu"))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((), r"the train split: expected tensors, such as \(x, y\) or .*, found nothing"),
        (np.ones(3), "the train split: expected tensors, .*, found a ndarray"),
        ({"x": X, "name": "a"}, "the train split: expected tensors, .*, found a str"),
        ((X, torch.tensor(1.0)), "the train split: expected tensors, .*, found a tuple"),
        (
            {"x": X, "y": Y[:3]},
            "the train split: expected the same number of examples in every tensor, at least 1, found 5 and 3",
        ),
        ((torch.zeros(0, 2),), "found 0"),
    ],
)
def test_invalid_data_raise(train, message):
    with pytest.raises(UsageError, match=message):
        lca.Problem(nn.Linear(2, 2), train=train)


def test_loss_module_in_place_of_a_function_is_refused():
    with pytest.raises(UsageError, match=r"losses: expected a function losses\(model, batch\) .* CrossEntropyLoss"):
        lca.Problem(nn.Linear(2, 3), nn.CrossEntropyLoss(), train=(torch.zeros(4, 2), torch.zeros(4).long()))


def test_swapped_arguments_are_refused(tmp_path):
    problem = lca.Problem(nn.Linear(2, 3), train=(torch.zeros(4, 2), torch.zeros(4).long()))
    for swapped in (
        lambda: lca.allocate(problem, tmp_path / "run.zarr"),
        lambda: lca.check(problem, tmp_path / "run.zarr"),
        lambda: lca.Recorder(problem.model, tmp_path / "run.zarr"),
    ):
        with pytest.raises(UsageError, match="path: expected a path or URL, found a (Problem|Linear). Check the order"):
            swapped()
    with pytest.raises(UsageError, match="problem: expected an lca.Problem, found"):
        lca.train(tmp_path / "run.zarr", problem)


def test_split_that_does_not_exist_is_refused():
    problem = lca.Problem(nn.Linear(2, 3), train=(torch.zeros(4, 2), torch.zeros(4).long()))
    with pytest.raises(UsageError, match="the problem has no split 'val'. Its splits are train."):
        problem.split("val")
