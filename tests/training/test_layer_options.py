import pytest
import torch
from torch import nn

import lca
from lca.errors import UsageError
from lca.store.layer_options import Freeze, LayerOptions
from lca.store.parameters import match_layers
from lca.training.layer_options import frozen_from, options_by_parameter

LAYERS = ["conv1", "block1.conv1", "block1.conv2", "fc"]


def test_freezes_and_layer_options_are_parsed():
    assert Freeze.parse("last") == Freeze("last", 0)
    assert Freeze.parse("block1.*@200") == Freeze("block1.*", 200)
    assert LayerOptions.parse("fc:lr=0.01,momentum=0.5") == LayerOptions("fc", {"learning_rate": 0.01, "momentum": 0.5})
    assert LayerOptions.parse("a:b:l2=1e-4") == LayerOptions("a:b", {"l2": 1e-4})


@pytest.mark.parametrize("text", ["", "@3", "fc@", "fc@-1", "fc@x"])
def test_a_freeze_that_is_none(text):
    with pytest.raises(UsageError, match=r"LAYER or LAYER@ITERATION was wanted, such as last or fc1@200"):
        lca.TrainConfig(freeze=[text])


@pytest.mark.parametrize("text", ["", "fc", "fc:", ":lr=1", "fc:lr", "fc:lr=", "fc:lr=x", "fc:beta=1", "fc:lr=1,"])
def test_layer_options_that_are_none(text):
    with pytest.raises(UsageError, match=r"LAYER:NAME=NUMBER,… was wanted, with the names lr, .*such as last:lr=0.01"):
        lca.TrainConfig(layers=[text])


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
def test_layers_are_found_by_name_glob_and_place(pattern, found):
    assert match_layers(pattern, LAYERS) == found


def test_a_layer_called_last_is_meant_by_its_name():
    assert match_layers("last", ["last", "fc"]) == {"last"}


def test_an_unknown_layer_lists_the_known():
    with pytest.raises(
        UsageError, match=r"no layer 'fc2'; it has conv1, block1.conv1, block1.conv2, fc, first and last"
    ):
        match_layers("fc2", LAYERS)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)


def test_bias_and_norm_go_with_their_kernel():
    model = Net()
    frozen = frozen_from(model, ["conv@7"])
    assert [id(tensor) for tensor, _ in frozen] == [
        id(tensor) for tensor in (model.conv.weight, model.conv.bias, model.norm.weight, model.norm.bias)
    ]
    assert {start for _, start in frozen} == {7}


def test_of_two_freezes_the_earlier_counts():
    assert [start for _, start in frozen_from(Net(), ["*@9", "fc@4"])] == [9, 9, 9, 9, 4, 4]


def test_of_two_options_the_later_counts():
    own = options_by_parameter(Net(), ["*:lr=0.1,momentum=0.5", "last:lr=0.2"])
    assert [options for _, options in own] == [{"learning_rate": 0.1, "momentum": 0.5}] * 4 + [
        {"learning_rate": 0.2, "momentum": 0.5}
    ] * 2
    assert all(isinstance(tensor, torch.Tensor) for tensor, _ in own)
