import numpy as np
import pytest
import torch
from handmade import make_run
from torch import nn

from lca.errors import LCAError, UsageError
from lca.model.parameters import build_table
from lca.store.parameters import ParameterTable, match_layers

LAYERS = ["conv1", "block1.conv1", "block1.conv2", "fc"]


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


def test_rows_are_found_by_name(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.arange(70.0).reshape(7, 10))
    A = run.allocation("train").lca
    assert A[run.parameters.rows("1"), 2:4].tolist() == np.arange(70.0).reshape(7, 10)[3:, 2:4].tolist()
    assert run.parameters.rows("0.bias") == slice(2, 3)
    with pytest.raises(UsageError, match="no layer or tensor is called 'fc'. The names are 0, 1, 0.weight, 0.bias"):
        run.parameters.rows("fc")
    first, *rest = run.parameters.to_json()
    apart = ParameterTable.from_json([first, *rest[:-1], {**rest[-1], "layer": "0"}])
    assert apart.rows("0").tolist() == [0, 1, 2, 5, 6]


def test_json_round_trip():
    table = build_table(Block())
    assert ParameterTable.from_json(table.to_json()) == table


def test_a_different_model_is_described_in_the_error():
    expected, found = (build_table(nn.Linear(3, n)) for n in (2, 4))
    with pytest.raises(
        LCAError, match=r"tensor 0: expected weight \(2, 3\) \(2 tensors with 8 parameters\), found weight \(4, 3\)"
    ):
        expected.require_same(found, "run.zarr", "the model")
    shorter = build_table(nn.Linear(3, 2, bias=False))
    with pytest.raises(LCAError, match=r"tensor 1: expected bias \(2,\) .*, found no such tensor"):
        expected.require_same(shorter, "run.zarr", "the model")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("conv1", {"conv1"}),
        ("first", {"conv1"}),
        ("last", {"fc"}),
        ("block1.*", {"block1.conv1", "block1.conv2"}),
        ("*conv1", {"conv1", "block1.conv1"}),
    ],
)
def test_layers_are_found_by_name_glob_and_position(pattern, found):
    assert match_layers(pattern, LAYERS) == found


def test_a_layer_called_last_is_selected_by_its_name():
    assert match_layers("last", ["last", "fc"]) == {"last"}


def test_an_unknown_layer_lists_all_layers():
    with pytest.raises(
        UsageError,
        match=r"no layer matches 'fc2'. The layers are conv1, block1.conv1, block1.conv2, fc. You can also use first",
    ):
        match_layers("fc2", LAYERS)
