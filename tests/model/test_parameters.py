import pytest
import torch
from torch import nn

from lca.errors import LCAError
from lca.model.parameters import flatten
from lca.model.vectors import make_views, norm_by_tensor, sum_by_tensor
from lca.store.parameters import ParameterTable


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.Linear(4, 4, bias=False)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.other.weight
        self.frozen = nn.Linear(4, 1)
        self.frozen.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(3))


def test_the_table_names_layers_and_kinds():
    table = ParameterTable.of(Block())
    assert [(p.name, p.layer, p.kind) for p in table] == [
        ("scale", "Block", "kernel"),
        ("conv.weight", "conv", "kernel"),
        ("conv.bias", "conv", "bias"),
        ("norm.weight", "conv", "norm"),
        ("norm.bias", "conv", "norm"),
        ("other.weight", "other", "kernel"),
        ("tied.bias", "tied", "bias"),
    ]
    assert table.size == 3 + 72 + 4 + 4 + 4 + 16 + 4
    assert table.layers == ["Block", "conv", "other", "tied"]
    assert [p.offset for p in table] == [0, 3, 75, 79, 83, 87, 103]


def test_json_round_trip():
    table = ParameterTable.of(Block())
    assert ParameterTable.from_json(table.to_json()) == table


def test_views_and_flatten_are_inverse():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    theta = flatten(model)
    for view, parameter in zip(make_views(theta, ParameterTable.of(model)), model.parameters(), strict=True):
        assert torch.equal(view, parameter)
        assert view.data_ptr() >= theta.data_ptr()


def test_sums_and_norms_by_tensor():
    vector = torch.arange(10, dtype=torch.float64)
    lengths = torch.tensor([3, 1, 6])
    assert sum_by_tensor(vector, lengths).tolist() == [3, 3, 39]
    expected = [vector[:3].norm(), vector[3:4].norm(), vector[4:].norm()]
    torch.testing.assert_close(norm_by_tensor(vector, lengths), torch.stack(expected))


def test_a_different_model_is_named():
    wanted, found = (ParameterTable.of(nn.Linear(3, n)) for n in (2, 4))
    with pytest.raises(LCAError, match=r"parameter 0 is weight \(4, 3\), weight \(2, 3\) was wanted"):
        wanted.require_same(found, "run.zarr", "the model")
    shorter = ParameterTable.of(nn.Linear(3, 2, bias=False))
    with pytest.raises(LCAError, match=r"parameter 1 is nothing, bias \(2,\) was wanted"):
        wanted.require_same(shorter, "run.zarr", "the model")


def test_nothing_to_train_is_an_error():
    with pytest.raises(LCAError, match="no trainable parameters"):
        ParameterTable.of(nn.Linear(2, 2).requires_grad_(False))
