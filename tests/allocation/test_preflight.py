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


class Centered(nn.Module):
    """A hand-written normalization over the batch."""

    def forward(self, x):
        return x - x.mean(0)


def test_loss_that_depends_on_the_rest_of_the_batch_causes_a_note(tmp_path, problem):
    path, given = record(tmp_path, problem, Net(Centered()))
    (note,) = check(path, given, lca.AllocateConfig(batch_size=30, audit=0)).notes
    assert note.startswith("an example's loss depends on the rest of its batch (halving the batch changes it by ")
    assert "the batch size, here 30" in note
    mixing = lca.Problem(
        given.model, lambda m, b: (m(b[0])[:, :1] - b[1]).square().mean(1), given.train, name="small"
    )  # broadcast to (B, B), then averaged to (B,)
    assert any("a loss that mixes examples" in note for note in check(path, mixing).notes)
    known = tmp_path / "known"
    known.mkdir()
    assert check(*record(known, problem, Net(nn.BatchNorm1d(8))), lca.AllocateConfig(audit=0)).notes == []


def test_random_loss_is_distinguished_from_a_random_model(tmp_path, problem):
    path, given = record(tmp_path, problem, Net(nn.Identity()))
    noisy = lca.Problem(given.model, lambda m, b: given.losses(m, b) + torch.rand(len(b[0])), given.train, name="small")
    with pytest.raises(LCAError, match="No single module is random"):
        check(path, noisy)


@pytest.mark.parametrize("middle", [Detached(), Wrong()])
def test_wrong_gradient_is_refused(tmp_path, problem, middle):
    path, given = record(tmp_path, problem, Net(middle))
    with pytest.raises(
        LCAError, match="the gradient is not the derivative of the loss: along a test direction it gives the slope"
    ):
        check(path, given)


@pytest.mark.parametrize("middle", [nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.GELU(), nn.LayerNorm(8)])
def test_correct_models_pass(tmp_path, problem, middle):
    path, given = record(tmp_path, problem, Net(middle), n=10)
    checked = check(path, given)
    assert checked.measured_slope == pytest.approx(checked.slope, rel=0.01)
    assert checked.slope > 0
    assert checked.forecast_s == checked.n_passes * checked.pass_s


def test_loss_that_is_not_finite_at_the_first_iterate_is_refused(tmp_path, problem):
    model = Net(nn.Identity())
    model.last.bias.data[0] = float("nan")
    path, given = record(tmp_path, problem, model)
    with pytest.raises(LCAError, match="the loss at the first iterate: expected a finite number, found nan"):
        check(path, given)


def test_remarks_on_the_loss_are_part_of_the_certificate(tmp_path, problem):
    path, given = record(tmp_path, problem, Net(Centered()))
    summary = lca.allocate(path, given, batch_size=30, audit=0, device="cpu")
    assert "an example's loss depends on the rest of its batch" in "".join(summary.remarks)
    assert "remark" in str(summary)
    assert "so L depends on the batch size, here 30" in str(lca.summarize(lca.open(path).allocation("train")))


def test_gradient_that_is_not_finite_is_refused(tmp_path, problem):
    """The loss is finite because NaN is masked, but the gradient of the masked square root is NaN."""

    class Masked(nn.Module):
        def forward(self, x):
            return torch.where(x > 0, torch.sqrt(x), 0)

    path, given = record(tmp_path, problem, Net(Masked()))
    message = r"gradient at the first iterate: expected finite numbers, like the loss, found \d+ of 51 entries NaN or "
    with pytest.raises(LCAError, match=message + r"infinite \(first in first.weight\).*torch.where\(mask"):
        lca.check(path, given, device="cpu")
