"""User models: other dtypes, partial training, per-token losses, and buffers."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_problem
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError, UsageError
from lca.model.parameters import flatten
from lca.problem.losses import cross_entropy
from lca.problem.objective import Objective
from lca.store.verify import verify
from lca.training.batch_order import draw_indices
from lca.training.loop import compute_mean_loss

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)  # Gauss-Legendre quadrature, rescaled to [0, 1]
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2


def record_run(path, problem, iterations=10, rate=0.3):
    """Record a run of plain SGD on mini-batches of 20 examples, in a custom training loop."""
    optimizer = torch.optim.SGD([p for p in problem.model.parameters() if p.requires_grad], rate)
    x, y = problem.train
    with lca.Recorder(path, problem.model) as recorder:
        recorder.attach(optimizer)
        for t in range(iterations):
            optimizer.zero_grad()
            part = slice(t % 3 * 20, t % 3 * 20 + 20)
            problem.losses(problem.model, (x[part], y[part])).mean().backward()
            optimizer.step()
    return lca.open(path)


def brute_force(model, loss, theta0, theta1):
    """Return A, shape (K,), of the step from theta0 to theta1, by Gauss-Legendre quadrature in float64.

    `loss(model)` returns a scalar.
    """
    model = copy.deepcopy(model).double()
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(len(theta0), dtype=torch.float64)
    for s, weight in zip(NODES, WEIGHTS, strict=True):
        torch.nn.utils.vector_to_parameters(theta0 + float(s) * (theta1 - theta0), parameters)
        gradient = torch.autograd.grad(loss(model), parameters)
        total += weight * torch.cat([g.reshape(-1) for g in gradient])
    return (theta1 - theta0) * total


def require_brute_force(run, name, model, loss, tolerance):
    """Compare the first and last iteration of an allocation with brute_force, relative to Σ|A|."""
    weights = torch.from_numpy(run.weights[:]).double()
    for t in (0, run.n_iterations - 1):
        expected = brute_force(model, loss, weights[:, t], weights[:, t + 1]).numpy()
        assert np.abs(expected).sum() > 0
        found = run.allocation(name).lca[:, t]
        assert np.abs(found - expected).sum() < tolerance * np.abs(expected).sum()


def make_problem(dtype, data=None):
    """Return the small problem with its model in `dtype` and its inputs in `data` (by default the same)."""
    given = small_problem()
    x, y = given.train
    return lca.Problem(given.model.to(dtype), given.losses, train=(x.to(data or dtype), y), name="other")


def test_float64_model_is_recorded_and_allocated_in_float64(tmp_path):
    problem = make_problem(torch.float64)
    run = record_run(tmp_path / "run.zarr", problem)
    assert run.weights.dtype == np.float64
    np.testing.assert_array_equal(run.weights[:, -1], flatten(problem.model).numpy())
    summary = lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu", tolerance=1e-9, max_intervals=1024))
    assert summary.within_bounds
    assert summary.largest_residual < 1e-9  # beyond the precision of float32
    x, y = problem.train
    loss = lambda model: nn.functional.cross_entropy(model(x), y)
    require_brute_force(lca.open(run.path), "train", problem.model, loss, 1e-6)
    assert lca.open(run.path).allocation("train").lca.dtype == np.float32
    assert next(problem.model.parameters()).dtype == torch.float64
    with pytest.raises(UsageError, match="precision: expected fp32, because the model is in float64, found bf16"):
        lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu", precision="bf16", name="rough"))
    with pytest.raises(LCAError, match="of the model of other: expected float64, as recorded in .*, found float32"):
        lca.allocate(run.path, make_problem(torch.float32), lca.AllocateConfig(device="cpu", name="narrow"))
    with pytest.raises(LCAError, match="of the model: expected float64, as recorded in .*, found float32"):
        lca.Recorder(run.path, make_problem(torch.float32).model, resume=True).__enter__()


def test_steps_below_float32_resolution_are_integrated(tmp_path):
    problem = make_problem(torch.float64)
    run = record_run(tmp_path / "run.zarr", problem, rate=1e-7)
    lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu"))
    x, y = problem.train
    loss = lambda model: nn.functional.cross_entropy(model(x), y)
    require_brute_force(lca.open(run.path), "train", problem.model, loss, 1e-6)


def test_total_is_refined_to_float64_precision(tmp_path):
    problem = make_problem(torch.float64)
    run = record_run(tmp_path / "run.zarr", problem, rate=1.0)
    config = lca.AllocateConfig(device="cpu", total_tolerance=1e-9, max_intervals=1024)
    summary = lca.allocate(run.path, problem, config)
    assert summary.refined > 0
    assert summary.within_bounds


def test_verify_detects_unmoved_iterations_in_float64(tmp_path):
    model = nn.Linear(2, 3).double()
    nn.init.zeros_(model.weight)  # so that the lower 32 bits of every value stay the same
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(4):
            with torch.no_grad():
                model.weight += 0.5 * (t != 2)
            recorder.record()
    result = verify(tmp_path / "run.zarr")
    assert result.findings == []
    assert any("1 iteration changed no parameter (iteration 2)" in remark for remark in result.remarks)


def test_every_codec_stores_float64_exactly(tmp_path):
    for codec in ("zstd", "lz4", "pcodec"):
        problem, thetas = make_problem(torch.float64), []
        with lca.Recorder(tmp_path / f"{codec}.zarr", problem.model, codec=codec) as recorder:
            thetas.append(flatten(problem.model).numpy())
            with torch.no_grad():
                for p in problem.model.parameters():
                    p += 1e-9
            recorder.record()
            thetas.append(flatten(problem.model).numpy())
        np.testing.assert_array_equal(lca.open(tmp_path / f"{codec}.zarr").weights[:], np.stack(thetas, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_parameters_are_integrated_in_float32(tmp_path, dtype):
    """The iterates have exact 16-bit values, but the path between them and the loss are not rounded to 16 bits."""
    problem = make_problem(dtype)
    problem.model[0].bias.grad = torch.ones_like(problem.model[0].bias)
    run = record_run(tmp_path / "run.zarr", problem, rate=0.5)
    assert run.weights.dtype == np.float32
    weights = torch.from_numpy(run.weights[:])
    assert torch.equal(weights, weights.to(dtype).float())
    before = {name: (p.dtype, p.clone(), p.grad.clone()) for name, p in problem.model.named_parameters()}
    assert lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu")).within_bounds
    x, y = problem.train
    loss = lambda model: nn.functional.cross_entropy(model(x.double()), y)
    require_brute_force(lca.open(run.path), "train", problem.model, loss, 0.01)
    for name, p in problem.model.named_parameters():
        kind, value, grad = before[name]
        assert p.dtype == kind
        assert torch.equal(p, value)
        assert torch.equal(p.grad, grad)


def test_loss_that_casts_to_16_bits_raises_with_a_remedy(tmp_path):
    problem = make_problem(torch.bfloat16, data=torch.float32)
    casting = lambda model, batch: cross_entropy(model, (batch[0].bfloat16(), batch[1]))
    problem = replace(problem, losses=casting, correct=None)
    run = record_run(tmp_path / "run.zarr", problem)
    with pytest.raises(LCAError, match=r"its code casts to a fixed 16-bit dtype.*next\(model\.parameters\(\)\)\.dtype"):
        lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu"))
    following = lambda model, batch: cross_entropy(model, (batch[0].to(next(model.parameters()).dtype), batch[1]))
    lca.allocate(run.path, replace(problem, losses=following), lca.AllocateConfig(device="cpu"))


def test_frozen_16_bit_base_with_float32_head(tmp_path):
    """The model casts between the dtypes of its two parts."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.base, self.head = nn.Linear(2, 8).bfloat16().requires_grad_(False), nn.Linear(8, 3)
            self.register_buffer("shift", torch.full((8,), 0.125, dtype=torch.bfloat16))

        def forward(self, x):
            return self.head(
                torch.tanh(self.base(x.to(self.base.weight.dtype)) + self.shift).to(self.head.weight.dtype)
            )

    given = small_problem(model=Mixed())
    run = record_run(tmp_path / "run.zarr", given)
    assert [p.name for p in run.parameters] == ["head.weight", "head.bias"]
    assert lca.allocate(run.path, given, lca.AllocateConfig(device="cpu")).within_bounds
    x, y = given.train
    loss = lambda model: nn.functional.cross_entropy(model(x.double()), y)
    require_brute_force(lca.open(run.path), "train", given.model, loss, 1e-3)
    assert given.model.base.weight.dtype == given.model.shift.dtype == torch.bfloat16


def test_complex_parameters_raise_with_a_remedy(tmp_path):
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.z = nn.Parameter(torch.zeros(3, dtype=torch.complex64))

    with pytest.raises(LCAError, match=r"z is torch\.complex64, but a loss change can only be .*view_as_real"):
        lca.Recorder(tmp_path / "run.zarr", Complex())
    model = Complex()
    model.z = nn.Parameter(torch.view_as_real(model.z.detach()))  # the remedy that the error proposes
    with lca.Recorder(tmp_path / "run.zarr", model):
        pass
    assert lca.open(tmp_path / "run.zarr").parameters.size == 6


class LowRank(nn.Module):
    """A frozen layer plus a trained correction of rank 2."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(2, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


def test_only_low_rank_adapters_are_recorded_and_allocated(tmp_path):
    torch.manual_seed(0)
    given = small_problem(model=nn.Sequential(LowRank(nn.Linear(2, 8)), nn.Tanh(), LowRank(nn.Linear(8, 3))))
    run = record_run(tmp_path / "run.zarr", given)
    assert [p.name for p in run.parameters] == ["0.a", "0.b", "2.a", "2.b"]
    assert lca.allocate(run.path, given, lca.AllocateConfig(device="cpu")).within_bounds
    x, y = given.train
    loss = lambda model: nn.functional.cross_entropy(model(x.double()), y)
    require_brute_force(lca.open(run.path), "train", given.model, loss, 0.01)


# Losses per token ----------------------------------------------------------------------------------------------------

VOCABULARY, LONGEST = 7, 6


def sentences(n=60):
    """Return n sentences of 1 to 6 tokens and the token that follows each token, −1 for padding."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCABULARY, (n, LONGEST + 1), generator=generator)
    lengths = torch.arange(n) % LONGEST + 1
    ended = torch.arange(LONGEST) >= lengths[:, None]
    return tokens[:, :-1], tokens[:, 1:].masked_fill(ended, -1)


class Reader(nn.Module):
    """A GRU whose output layer shares its weights with the embedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.gru = (
            nn.Embedding(VOCABULARY, 8),
            nn.GRU(8, 8, batch_first=True, num_layers=2, dropout=0.3),
        )
        self.out = nn.Linear(8, VOCABULARY)
        self.out.weight = self.embedding.weight

    def forward(self, tokens):
        return self.out(self.gru(self.embedding(tokens))[0])


def loss_per_token(model, batch):
    tokens, following = batch
    logits = model(tokens)
    return nn.functional.cross_entropy(logits.mT, following, ignore_index=-1, reduction="none")


def make_text_problem(**options):
    return lca.Problem(Reader(), loss_per_token, sentences(), weigh=lambda batch: batch[1] >= 0, name="text", **options)


def mean_per_token(model):
    """Return the mean loss of the model without dropout, computed by torch, which ignores padding."""
    model.gru.dropout = 0.0
    tokens, following = sentences()
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten(), ignore_index=-1)


@pytest.mark.parametrize("batch_size", [7, 60])
def test_loss_per_token_is_averaged_over_tokens(batch_size):
    problem = make_text_problem()
    reference = copy.deepcopy(problem.model).double()
    loss = mean_per_token(reference)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(reference.parameters()))])
    with FullGradient(Objective(problem.model, loss_per_token, problem.train, weigh=problem.weigh), batch_size) as full:
        theta = full.theta.clone()
        found, mean = full(theta), full.compute_mean(theta)
        of_sentences, lengths = full.compute_by_example(theta), full.compute_weights()
    assert float(found.loss) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert float(mean) == pytest.approx(float(loss.detach()), rel=1e-6)
    torch.testing.assert_close(found.gradient.double(), gradient, rtol=1e-4, atol=1e-6)
    assert lengths.tolist() == (torch.arange(60) % LONGEST + 1).tolist()
    assert float(of_sentences.sum() / lengths.sum()) == pytest.approx(float(loss.detach()), rel=1e-5)


def test_language_model_is_allocated_by_class_of_token(tmp_path):
    problem = make_text_problem(groups=lambda batch: torch.where(batch[1] < 0, 9, batch[1] % 3))  # padding has weight 0
    path = tmp_path / "run.zarr"
    lca.train(problem, path, lca.TrainConfig(batch_size=20, iterations=9, learning_rate=0.5, device="cpu"))
    run = lca.open(path)
    first = next(draw_indices(60, 20, seed=0))
    losses, words = loss_per_token(Reader().eval(), [x[first] for x in sentences()]), sentences()[1][first] >= 0
    of_all = lca.AllocateConfig(device="cpu", by_class=True, batch_size=25)
    assert run.training["loss"][0] == pytest.approx(
        float(losses[words].mean().detach()), rel=0.05
    )  # dropout changes the loss
    lca.allocate(path, problem, of_all)
    run = lca.open(path)
    require_brute_force(run, "train", problem.model, mean_per_token, 0.01)
    allocation = run.allocation("train")
    assert allocation.attributes["classes"] == [0, 1, 2]
    np.testing.assert_allclose(allocation.class_lca[:].sum(1), allocation.tensor_lca[:], atol=1e-7)

    tokens, following = sentences()

    def loss_of_class(model):
        """Return the contribution of the tokens of class 1 to the loss."""
        model.gru.dropout = 0.0
        losses = nn.functional.cross_entropy(model(tokens).mT, following, ignore_index=-1, reduction="none")
        return losses[following % 3 == 1].sum() / (following >= 0).sum()

    weights = torch.from_numpy(run.weights[:, 3:5]).double()
    expected = brute_force(problem.model, loss_of_class, weights[:, 0], weights[:, 1])
    by_tensor = np.array([float(expected[p.span].sum()) for p in run.parameters])
    np.testing.assert_allclose(allocation.class_lca[3, 1], by_tensor, atol=0.01 * np.abs(by_tensor).sum())


def test_a_subset_of_weighted_examples_has_a_standard_error(tmp_path):
    problem = make_text_problem()
    path = tmp_path / "run.zarr"
    lca.train(problem, path, lca.TrainConfig(batch_size=20, iterations=3, learning_rate=0.5, device="cpu"))
    summary = lca.allocate(path, problem, lca.AllocateConfig(device="cpu", examples=30))
    assert summary.examples == 30
    assert 0 < summary.standard_error["start"] < 0.2
    whole = lca.allocate(path, problem, lca.AllocateConfig(device="cpu", name="whole"))
    assert abs(summary.loss_start - whole.loss_start) < 4 * summary.standard_error["start"]


def test_weights_apply_to_loss_accuracy_subset_and_bfloat16(tmp_path):
    given = small_problem()
    weigh = lambda batch: 1.0 + (batch[1] == 2) * 3  # the third class counts four times
    problem = replace(given, weigh=weigh)
    path = record_run(tmp_path / "run.zarr", problem).path
    lca.allocate(path, problem, lca.AllocateConfig(device="cpu"))
    x, y = given.train

    def loss(model):
        losses = nn.functional.cross_entropy(model(x.double()), y, reduction="none")
        return (losses * weigh((x, y))).sum() / weigh((x, y)).sum()

    run = lca.open(path)
    require_brute_force(run, "train", problem.model, loss, 0.01)
    rough = lca.allocate(path, problem, lca.AllocateConfig(device="cpu", precision="bf16", name="rough"))
    assert rough.loss_start == pytest.approx(float(run.allocation("train").loss[0]), abs=1e-6)
    some = lca.allocate(path, problem, lca.AllocateConfig(device="cpu", examples=30, name="some"))
    assert 0 < some.standard_error["start"] < 0.3
    pruned = lca.analysis.prune(run, lca.Evaluator(problem))
    torch.nn.utils.vector_to_parameters(torch.from_numpy(run.weights[:, -1]), given.model.parameters())
    right = (given.model(x).argmax(1) == y) * weigh((x, y))
    assert pruned.accuracy["train"][0, 0] == pytest.approx(float(right.sum() / weigh((x, y)).sum()))


def test_examples_of_weight_zero_may_be_non_finite():
    """A mini-batch that contains no other examples has a zero gradient."""
    given = small_problem()
    x, y = given.train
    broken = x.clone()
    broken[y == 0] = torch.inf

    def losses(model, batch):
        found = cross_entropy(model, batch)
        return found.masked_fill(batch[0].isinf().any(1), torch.nan)

    problem = replace(given, losses=losses, train=(broken.nan_to_num(posinf=1e3), y), weigh=lambda batch: batch[1] > 0)
    kept = y > 0
    with FullGradient(Objective(given.model, cross_entropy, (x[kept], y[kept])), 16) as full:
        expected = full(full.theta.clone())
    with FullGradient(Objective(given.model, losses, problem.train, weigh=problem.weigh), 16) as full:
        found = full(full.theta.clone())
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-4, atol=1e-6)
    nothing = compute_mean_loss(problem, given.model, (x[y == 0], y[y == 0]), None)
    assert nothing == 0
    assert all(not g.any() for g in torch.autograd.grad(nothing, list(given.model.parameters())))


def test_duplicate_class_names_raise():
    given = small_problem()
    with pytest.raises(UsageError, match="group_names: expected a different name for each label, found a, b, a"):
        replace(given, group_names={0: "a", 1: "b", 2: "a"})


def test_loss_per_token_without_weights_raises_with_a_remedy():
    problem = lca.Problem(Reader(), loss_per_token, sentences())
    with (
        FullGradient(Objective(problem.model, loss_per_token, problem.train), 20) as full,
        pytest.raises(
            LCAError, match=r"for a batch of 20.*found a tensor of shape \(20, 6\).*For one loss per token.*weigh"
        ),
    ):
        full(full.theta)


def test_groups_per_token_require_losses_per_token(tmp_path):
    given, groups = small_problem(), lambda batch: torch.zeros(len(batch[0]), 2).long()
    with (
        FullGradient(Objective(given.model, cross_entropy, given.train, groups=groups), 20) as full,
        pytest.raises(LCAError, match=r"one label per loss, shape \(20,\).*found shape \(20, 2\)"),
    ):
        full(full.theta, torch.ones(full.table.size))


# Buffers -------------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A model that counts its forward passes in a buffer. If `matters`, its output depends on the count."""

    def __init__(self, matters):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.matters = nn.Linear(2, 3), matters
        self.register_buffer("n", torch.zeros(()))
        self.register_buffer("scale", torch.tensor([2.0, 1.0]))
        self.register_buffer("cache", None)

    def forward(self, x):
        self.n += 1
        self.cache = x.detach()
        return self.net(x * self.scale) * (1 + 0.1 * self.n if self.matters else 1)


def test_allocation_uses_buffers_and_restores_them(tmp_path):
    given = small_problem(model=Counting(matters=False))
    run = record_run(tmp_path / "run.zarr", given)
    n = float(given.model.n)
    assert lca.allocate(run.path, given, lca.AllocateConfig(device="cpu")).within_bounds
    assert float(given.model.n) == n
    assert len(given.model.cache) == 20  # left by the last mini-batch of the training
    x, y = given.train
    loss = lambda model: nn.functional.cross_entropy(model(x.double()), y)
    require_brute_force(lca.open(run.path), "train", given.model, loss, 0.01)


def test_error_names_the_buffer_that_changes_the_loss(tmp_path):
    given = small_problem(model=Counting(matters=True))
    run = record_run(tmp_path / "run.zarr", given)
    with pytest.raises(LCAError, match="not a function of the parameters.*A pass changes the buffer n. "):
        lca.allocate(run.path, given, lca.AllocateConfig(device="cpu"))
    assert lca.open(run.path).allocations == [] or not lca.open(run.path).allocation("train").n_allocated


def test_compiled_16_bit_model(tmp_path):
    problem = make_problem(torch.bfloat16)
    run = record_run(tmp_path / "run.zarr", problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile's warnings differ between releases
        summary = lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu", compile=True, name="compiled"))
    lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu"))
    assert summary.within_bounds
    run = lca.open(run.path)
    np.testing.assert_allclose(run.allocation("compiled").lca[:], run.allocation("train").lca[:], atol=1e-6)
