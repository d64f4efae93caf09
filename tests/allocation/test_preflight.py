import pytest
import torch
from click.testing import CliRunner
from torch import nn

import lca
from lca.allocation.allocate import check
from lca.allocation.full_gradient import FullGradient
from lca.cli.main import main
from lca.errors import LCAError
from lca.text import duration


def recorded(tmp_path, problem, model, n=2):
    """A run of a model that moves a little, and the problem with that model."""
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for _ in range(n):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.01 * parameter.requires_grad
            recorder.record()
    return tmp_path / "run.zarr", problem(model=model)


class Net(nn.Module):
    """2-8-3, with something in the middle."""

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


class Detached(nn.Module):
    def forward(self, x):
        return x * x.detach()


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return 1.2 * gradient


class Wrong(nn.Module):
    def forward(self, x):
        return WrongBackward.apply(x)


@pytest.mark.parametrize(("middle", "kind"), [(Noise(), "Noise"), (AlwaysDropout(), "AlwaysDropout")])
def test_a_random_module_is_named_and_nothing_is_allocated(tmp_path, problem, middle, kind):
    path, given = recorded(tmp_path, problem, Net(middle))
    with pytest.raises(LCAError, match=rf"is not a function of the parameters.* is middle \({kind}\)"):
        lca.allocate(path, given, lca.AllocateConfig(device="cpu"))
    assert lca.open(path).allocation("train").n_allocated == 0


class Autocast(nn.Module):
    """As a training with mixed precision may leave a model."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(x).float()


def test_a_model_that_turns_autocast_on_is_told(tmp_path, problem):
    path, given = recorded(tmp_path, problem, Net(Autocast()), n=2)
    (note,) = check(path, given).notes
    assert "middle.inner computes in autocast, which the model or its losses turn on by themselves" in note
    assert check(path, given, lca.AllocateConfig(precision="bf16")).notes == [note]
    plain = tmp_path / "plain"
    plain.mkdir()
    path, given = recorded(plain, problem, Net(nn.Tanh()), n=2)
    assert check(path, given, lca.AllocateConfig(precision="bf16")).notes == []


class Centred(nn.Module):
    """A normalisation over the batch that is not one of torch's."""

    def forward(self, x):
        return x - x.mean(0)


def test_a_loss_that_depends_on_its_company_is_told(tmp_path, problem):
    path, given = recorded(tmp_path, problem, Net(Centred()))
    (note,) = check(path, given, lca.AllocateConfig(batch_size=30)).notes
    assert note.startswith("the loss of an example is another in other company (by ")
    assert "of 30 here" in note
    mixing = lca.Problem(
        given.model, lambda m, b: (m(b[0])[:, :1] - b[1]).square().mean(1), given.train, name="small"
    )  # (B, B), of which the mean is (B,)
    assert any("a loss that mixes examples" in note for note in check(path, mixing).notes)
    known = tmp_path / "known"
    known.mkdir()
    assert check(*recorded(known, problem, Net(nn.BatchNorm1d(8)))).notes == []


def test_a_random_loss_is_told_from_a_random_model(tmp_path, problem):
    path, given = recorded(tmp_path, problem, Net(nn.Identity()))
    noisy = lca.Problem(given.model, lambda m, b: given.losses(m, b) + torch.rand(len(b[0])), given.train, name="small")
    with pytest.raises(LCAError, match="No module is random by itself"):
        check(path, noisy)


@pytest.mark.parametrize("middle", [Detached(), Wrong()])
def test_a_gradient_that_is_not_the_losses_is_refused(tmp_path, problem, middle):
    path, given = recorded(tmp_path, problem, Net(middle))
    with pytest.raises(LCAError, match="the gradient is not that of the loss: along a direction its slope is"):
        check(path, given)


@pytest.mark.parametrize("middle", [nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.GELU(), nn.LayerNorm(8)])
def test_sound_models_pass(tmp_path, problem, middle):
    path, given = recorded(tmp_path, problem, Net(middle), n=10)
    checked = check(path, given)
    assert checked.measured_slope == pytest.approx(checked.slope, rel=0.01)
    assert checked.slope > 0
    assert checked.disk_bytes == 4 * lca.open(path).parameters.size * 10
    assert checked.forecast_s == checked.n_passes * checked.pass_s


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"audit": 0},
        {"audit": 0.2},
        {"rule": "trapezoid"},
        {"rule": "first-order"},
        {"iterations": "10:20"},
        {"iterations": "60:90:3"},
    ],
)
def test_the_forecast_is_the_number_of_passes_that_follow(run, problem, monkeypatch, options):
    done, forecast, original = [], [], FullGradient._evaluate

    def counting(self, *arguments):
        done.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", counting)
    config = lca.AllocateConfig(tolerance=1e9, total_tolerance=1e9, batch_size=20, device="cpu", **options)
    lca.allocate(run, problem(), config, report=lambda checked: forecast.append((checked.n_passes, len(done))))
    [(n_passes, before)] = forecast
    assert len(done) - before == n_passes


def test_a_loss_that_is_not_finite_at_the_start(tmp_path, problem):
    model = Net(nn.Identity())
    model.last.bias.data[0] = float("nan")
    path, given = recorded(tmp_path, problem, model)
    with pytest.raises(LCAError, match="the loss at the first iterate is nan"):
        check(path, given)


def test_parameters_and_modules_are_listed(tmp_path, problem):
    model = Net(nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 8)))
    model.again = nn.Linear(2, 8)
    model.again.weight = model.first.weight
    model.first.bias.requires_grad_(False)
    path, given = recorded(tmp_path, problem, model)
    checked = check(path, given)
    states = {name: state for name, _, state in checked.parameters}
    assert states["first.weight"] == states["middle.0.weight"] == states["last.bias"] == "recorded"
    assert states["first.bias"] == "frozen"
    assert states["again.weight"] == "tied to first.weight"
    assert states["again.bias"] == "never touched by the loss"
    assert checked.modules == [
        ("middle.0", "BatchNorm1d", "statistics of the batch, buffers untouched"),
        ("middle.1", "Dropout", "off"),
    ]


def test_the_command_prints_it(tmp_path):
    path = str(tmp_path / "run.zarr")
    for arguments in (["train", "digits-fc", "--iterations", "5", "--out", path], ["check", path]):
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert "fc1.weight  32×64  recorded" in result.stdout
    assert "forecast  71 passes of" in result.stdout
    assert lca.open(path).allocations == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59, "59 s"), (200, "3 min 20 s"), (3600 * 5 + 600, "5 h 10 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
