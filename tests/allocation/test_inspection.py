import pytest
import torch
from torch import nn

import lca
from lca.allocation.allocate import check
from lca.errors import LCAError


def record(tmp_path, problem, model, n=2):
    """Record a model whose parameters change slightly. Returns the path of the run and the problem."""
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for _ in range(n):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.01 * parameter.requires_grad
            recorder.record()
    return tmp_path / "run.zarr", problem(model=model)


class Net(nn.Module):
    """A 2-8-3 network with an exchangeable module in the middle."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Linear(2, 8), middle, nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.middle(torch.tanh(self.first(x))))


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


class AlwaysDropout(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


class Autocast(nn.Module):
    """A module that enables autocast itself, like the models that some mixed-precision trainers leave behind."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(x).float()


@pytest.mark.parametrize(("middle", "kind"), [(Noise(), "Noise"), (AlwaysDropout(), "AlwaysDropout")])
def test_random_module_is_named_and_nothing_is_allocated(tmp_path, problem, middle, kind):
    path, given = record(tmp_path, problem, Net(middle))
    with pytest.raises(LCAError, match=rf"is not a function .* output of the module middle \({kind}\) differs"):
        lca.allocate(path, given, lca.AllocateConfig(device="cpu"))
    assert lca.open(path).allocation("train").n_allocated == 0


def test_random_function_between_two_modules_is_attributed_to_their_parent(tmp_path, problem):
    """The module after a functional dropout receives other inputs, so its outputs differ without its doing."""

    class Inner(nn.Sequential):
        def forward(self, x):
            return self[1](nn.functional.dropout(self[0](x), 0.5, training=True))

    path, given = record(tmp_path, problem, Net(Inner(nn.Linear(8, 8), nn.Linear(8, 8))))
    with pytest.raises(
        LCAError, match=r"The output of the module middle \(Inner\) differs between two passes although"
    ):
        lca.check(path, given, device="cpu")

    class Outer(Net):
        def forward(self, x):
            return self.last(nn.functional.dropout(self.first(x), 0.5, training=True))

    (tmp_path / "outer").mkdir()
    path, given = record(tmp_path / "outer", problem, Outer(nn.Identity()))
    with pytest.raises(LCAError, match=r"The output of the model itself \(Outer\) differs"):
        lca.check(path, given, device="cpu")


def test_model_that_enables_autocast_causes_a_note(tmp_path, problem):
    path, given = record(tmp_path, problem, Net(Autocast()), n=2)
    (note,) = check(path, given, lca.AllocateConfig(audit=0)).notes
    assert "middle.inner runs under autocast, which the model or its loss enables" in note
    assert check(path, given, lca.AllocateConfig(precision="bf16", audit=0)).notes == [note]
    plain = tmp_path / "plain"
    plain.mkdir()
    path, given = record(plain, problem, Net(nn.Tanh()), n=2)
    assert check(path, given, lca.AllocateConfig(precision="bf16", audit=0)).notes == []


def test_parameters_and_modules_are_listed(tmp_path, problem):
    model = Net(nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 8)))
    model.again = nn.Linear(2, 8)
    model.again.weight = model.first.weight
    model.first.bias.requires_grad_(False)
    path, given = record(tmp_path, problem, model)
    checked = check(path, given)
    states = {name: state for name, _, state in checked.parameters}
    assert states["first.weight"] == states["middle.0.weight"] == states["last.bias"] == "recorded"
    assert states["first.bias"] == "frozen"
    assert states["again.weight"] == "tied to first.weight"
    assert states["again.bias"] == "not used by the loss"
    assert checked.modules == [
        ("middle.0", "BatchNorm1d", "batch statistics, running statistics unused"),
        ("middle.1", "Dropout", "off"),
    ]
