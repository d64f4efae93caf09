import pytest
import torch
from torch import nn

from lca.errors import LCAError
from lca.model.parameters import build_table


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
    table = build_table(Block())
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


def test_a_model_without_trainable_parameters_is_an_error():
    with pytest.raises(LCAError, match="2 parameters, all with requires_grad=False"):
        build_table(nn.Linear(2, 2).requires_grad_(False))


def test_a_model_without_parameters_is_an_error():
    with pytest.raises(LCAError, match="found no parameters"):
        build_table(nn.ReLU())
