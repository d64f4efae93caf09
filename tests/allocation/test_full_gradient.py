import copy
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.model.evaluation_mode import has_batchnorm
from lca.model.parameters import flatten, get_trainable
from lca.problem.losses import cross_entropy
from lca.problem.objective import Objective


def make_data(n, seed=0, shape=(5,)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator), torch.randint(3, (n,), generator=generator)


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def compute_reference(model, x, y):
    """Compute the loss and the gradient in one float64 batch with torch's mean reduction."""
    model = copy.deepcopy(model).double()
    loss = nn.functional.cross_entropy(model(x.double()), y)
    return loss.detach(), torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(5, 8, num_layers=2, dropout=0.5, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.lstm(x)[0][:, -1])


def test_bfloat16_rounds_gradients_but_not_the_loss_of_an_iterate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(50, 5), torch.randint(3, (50,))
    with FullGradient(Objective(model, cross_entropy, (x, y)), 20) as full:
        exact = full(flatten(model))
    with FullGradient(Objective(model, cross_entropy, (x, y)), 20, precision="bf16") as full:
        theta = full.theta.clone()
        rough, at_iterate, float32 = full(theta), full.evaluate_iterate(theta), full.evaluate_full_precision(theta)
    difference = float((rough.gradient - exact.gradient).norm() / exact.gradient.norm())
    assert 1e-4 < difference < 2e-2
    assert rough.gradient.dtype == torch.float32
    assert float(rough.loss) != float(exact.loss)
    assert float(at_iterate.loss) == pytest.approx(float(exact.loss), rel=1e-6)
    assert torch.equal(float32.gradient, exact.gradient)
    assert torch.equal(at_iterate.gradient, rough.gradient)


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch warns while it compiles
def test_compiled_model_gives_the_same_allocation(run, problem):
    for compiled in (False, True):
        config = lca.AllocateConfig(
            name=f"compile-{compiled}", compile=compiled, iterations="0:5", audit=0, batch_size=25, device="cpu"
        )
        given = problem()
        lca.allocate(run, given, config)
        assert set(given.model.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    eager, compiled = (lca.open(run).allocation(f"compile-{c}") for c in (False, True))
    assert compiled.attributes["compile"]
    np.testing.assert_allclose(compiled.lca[:, :5], eager.lca[:, :5], rtol=1e-3, atol=1e-7)


@pytest.mark.cuda
@pytest.mark.parametrize("batchnorm", [False, True])
def test_cuda_graph_equals_eager_passes(batchnorm):
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(8) if batchnorm else nn.Identity()
    model = nn.Sequential(nn.Linear(5, 8), middle, nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(50, 5), torch.arange(50) * 3 // 50
    theta = flatten(model)
    with FullGradient(Objective(model, cross_entropy, (x, y), groups=lambda batch: batch[1]), 20) as full:
        expected = [full(theta + 0.1 * i, theta.double()) for i in range(3)]
    model.cuda()
    with FullGradient(Objective(model, cross_entropy, (x.cuda(), y.cuda()), groups=lambda batch: batch[1]), 20) as full:
        found = [full(theta.cuda() + 0.1 * i, theta.double().cuda()) for i in range(3)]
        assert full.notes == []
    for a, b in zip(found, expected, strict=True):
        assert float(a.loss) == pytest.approx(float(b.loss), rel=1e-6)
        torch.testing.assert_close(a.gradient.cpu(), b.gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a.slopes.cpu(), b.slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64, 103, 1000])
def test_batch_size_does_not_change_the_mean_over_all_examples(batch_size):
    model, (x, y) = make_net(), make_data(103)
    loss, gradient = compute_reference(model, x, y)
    with FullGradient(Objective(model, cross_entropy, (x, y)), batch_size) as full:
        result = full(flatten(model))
    assert result.loss.dtype == torch.float64
    assert float(result.loss) == pytest.approx(float(loss), rel=1e-6)
    torch.testing.assert_close(result.gradient.double(), gradient, rtol=1e-4, atol=1e-6)


def test_smaller_last_batch_has_the_right_weight():
    """With three examples in batches of two, a mean of batch means would count the last example twice."""
    x, y = torch.tensor([[0.0], [0.0], [1.0]]), torch.zeros(3)
    model = nn.Linear(1, 1, bias=False)
    with FullGradient(Objective(model, lambda model, batch: model(batch[0])[:, 0], (x, y)), 2) as full:
        result = full(torch.tensor([6.0]))
    assert float(result.loss) == pytest.approx(2.0)
    assert float(result.gradient) == pytest.approx(1 / 3)


def test_gradient_equals_central_differences_of_the_loss():
    model, (x, y) = make_net().double(), make_data(40)
    generator = torch.Generator().manual_seed(1)
    with FullGradient(Objective(model, cross_entropy, (x.double(), y)), 16) as full:
        theta = flatten(model)
        direction = torch.randn(len(theta), generator=generator, dtype=torch.float64)
        slope = (full(theta + 1e-5 * direction).loss - full(theta - 1e-5 * direction).loss) / 2e-5
        torch.testing.assert_close(slope, full(theta).gradient @ direction, rtol=1e-8, atol=1e-9)


def test_dropout_is_turned_off():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    x, y = make_data(30)
    loss, gradient = compute_reference(model.eval(), x, y)
    model.train()
    with FullGradient(Objective(model, cross_entropy, (x, y)), 8) as full:
        result = full(flatten(model))
    assert float(result.loss) == pytest.approx(float(loss), rel=1e-6)
    torch.testing.assert_close(result.gradient.double(), gradient, rtol=1e-4, atol=1e-6)


def test_recurrent_modules_run_in_training_mode_without_dropout():
    """cuDNN has a backward pass only in training mode. Without dropout, the loss equals that of eval mode."""
    torch.manual_seed(0)
    model, (x, y) = Recurrent().eval(), make_data(30, shape=(4, 5))
    loss, gradient = compute_reference(model, x, y)
    modes = []
    model.lstm.register_forward_pre_hook(lambda module, _: modes.append((module.training, module.dropout)))
    with FullGradient(Objective(model, cross_entropy, (x, y)), 8) as full:
        result = full(flatten(model))
    assert set(modes) == {(True, 0.0)}
    assert float(result.loss) == pytest.approx(float(loss), rel=1e-6)
    torch.testing.assert_close(result.gradient.double(), gradient, rtol=1e-4, atol=1e-6)
    assert (model.lstm.training, model.lstm.dropout) == (False, 0.5)


@pytest.mark.cuda
def test_recurrent_modules_have_a_gradient_on_cuda():
    torch.manual_seed(0)
    model, (x, y) = Recurrent(), make_data(30, shape=(4, 5))
    _, gradient = compute_reference(model.eval(), x, y)
    with FullGradient(Objective(model.cuda(), cross_entropy, (x.cuda(), y.cuda())), 8) as full:
        torch.testing.assert_close(full(full.theta.clone()).gradient.cpu().double(), gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_batchnorm_uses_batch_statistics_and_keeps_its_buffers(training):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).train(training)
    model[1].running_mean += 3
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x, y = make_data(50)
    assert has_batchnorm(model)

    batch_losses = []
    for begin in range(0, 50, 20):  # normalize each batch separately, in index order
        hidden = model[0](x[begin : begin + 20])
        hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + model[1].eps).sqrt()
        logits = model[2](hidden * model[1].weight + model[1].bias)
        batch_losses.append(nn.functional.cross_entropy(logits, y[begin : begin + 20], reduction="sum"))
    expected = torch.stack(batch_losses).sum() / 50
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(expected, list(model.parameters()))])

    with FullGradient(Objective(model, cross_entropy, (x, y)), 20) as full:
        result = full(flatten(model))
    assert float(result.loss) == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(result.gradient, gradient, rtol=1e-4, atol=1e-6)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert all(module.training == training for module in model.modules())
    assert model[1].track_running_stats


def test_model_is_restored():
    model = make_net().train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {
        name: (tensor, tensor.data_ptr(), tensor.detach().clone()) for name, tensor in get_trainable(model).items()
    }
    with pytest.raises(KeyError), FullGradient(Objective(model, cross_entropy, make_data(20)), 20) as full:
        full(torch.zeros(full.table.size))
        raise KeyError
    for name, tensor in get_trainable(model).items():
        assert (tensor is before[name][0], tensor.data_ptr()) == (True, before[name][1])
        assert torch.equal(tensor, before[name][2])
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[2].weight.grad is None
    assert model.training


def test_evaluations_share_no_memory():
    model = make_net()
    with FullGradient(Objective(model, cross_entropy, make_data(20)), 20) as full:
        first = full(flatten(model))
        kept = first.gradient.clone()
        full(torch.zeros(full.table.size))
    assert torch.equal(first.gradient, kept)


def test_gradient_of_tied_weights_is_the_sum_of_both_uses():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    with FullGradient(Objective(Tied(), lambda m, batch: m(batch[0])[:, 0], (torch.tensor([[2.0]]),)), 1) as full:
        result = full(torch.tensor([3.0]))
    assert (float(result.loss), result.gradient.tolist()) == (18.0, [12.0])


@pytest.mark.cuda
def test_cuda_agrees_with_the_cpu():
    model, (x, y) = make_net(), make_data(103)
    with FullGradient(Objective(model, cross_entropy, (x, y)), 50) as full:
        expected = full(flatten(model))
    model.cuda()
    with FullGradient(Objective(model, cross_entropy, (x.cuda(), y.cuda())), 50) as full:
        result = full(flatten(model))
    np.testing.assert_allclose(float(result.loss), float(expected.loss), rtol=1e-6)
    torch.testing.assert_close(result.gradient.cpu(), expected.gradient, rtol=1e-4, atol=1e-6)
