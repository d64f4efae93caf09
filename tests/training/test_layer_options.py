import torch
from torch import nn

from lca.training.layer_options import find_frozen, find_options


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)


def test_bias_and_norm_are_frozen_with_their_kernel():
    model = Net()
    frozen = find_frozen(model, ["conv@7"])
    assert [id(tensor) for tensor, _ in frozen] == [
        id(tensor) for tensor in (model.conv.weight, model.conv.bias, model.norm.weight, model.norm.bias)
    ]
    assert {start for _, start in frozen} == {7}


def test_earlier_of_two_freezes_counts():
    assert [start for _, start in find_frozen(Net(), ["*@9", "fc@4"])] == [9, 9, 9, 9, 4, 4]


def test_later_of_two_options_counts():
    found = find_options(Net(), ["*:lr=0.1,momentum=0.5", "last:lr=0.2"])
    assert [options for _, options in found] == [{"learning_rate": 0.1, "momentum": 0.5}] * 4 + [
        {"learning_rate": 0.2, "momentum": 0.5}
    ] * 2
    assert all(isinstance(tensor, torch.Tensor) for tensor, _ in found)
