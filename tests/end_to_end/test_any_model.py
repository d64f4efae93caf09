"""Models of other people: other kinds of numbers, partial training, losses by token, buffers of their own."""

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

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)  # for a brute-force integral over 0 … 1
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2


def recorded(path, problem, iterations=10, rate=0.3, dtype=None):
    """A run of plain SGD on successive parts of the data, by a loop of its own."""
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
    """A (K,) of one iteration, by Gauss and Legendre in float64; loss(model) -> scalar."""
    model = copy.deepcopy(model).double()
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(len(theta0), dtype=torch.float64)
    for s, weight in zip(NODES, WEIGHTS, strict=True):
        torch.nn.utils.vector_to_parameters(theta0 + float(s) * (theta1 - theta0), parameters)
        gradient = torch.autograd.grad(loss(model), parameters)
        total += weight * torch.cat([g.reshape(-1) for g in gradient])
    return (theta1 - theta0) * total


def require_brute_force(run, name, model, loss, tolerance):
    weights = torch.from_numpy(run.weights[:]).double()
    for t in (0, run.n_iterations - 1):
        expected = brute_force(model, loss, weights[:, t], weights[:, t + 1]).numpy()
        assert np.abs(expected).sum() > 0
        found = run.allocation(name).lca[:, t]
        assert np.abs(found - expected).sum() < tolerance * np.abs(expected).sum()


def in_kind(dtype, data=None):
    """The small problem in a kind of number."""
    given = small_problem()
    x, y = given.train
    return lca.Problem(given.model.to(dtype), given.losses, train=(x.to(data or dtype), y), name="other")


def test_a_model_in_float64_is_recorded_and_allocated_in_float64(tmp_path):
    problem = in_kind(torch.float64)
    run = recorded(tmp_path / "run.zarr", problem)
    assert run.weights.dtype == np.float64
    np.testing.assert_array_equal(run.weights[:, -1], flatten(problem.model).numpy())
    summary = lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu", tolerance=1e-9, max_intervals=1024))
    assert summary.within_bounds
    assert summary.largest_residual < 1e-9  # which float32 could not have
    x, y = problem.train
    loss = lambda model: nn.functional.cross_entropy(model(x), y)
    require_brute_force(lca.open(run.path), "train", problem.model, loss, 1e-6)
    assert lca.open(run.path).allocation("train").lca.dtype == np.float32
    assert next(problem.model.parameters()).dtype == torch.float64
    with pytest.raises(UsageError, match="precision: expected fp32, because the model is in float64, found bf16"):
        lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu", precision="bf16", name="rough"))
    with pytest.raises(
        LCAError, match="of the model of other: expected float64, in which .* was recorded, found float32"
    ):
        lca.allocate(run.path, in_kind(torch.float32), lca.AllocateConfig(device="cpu", name="narrow"))
    with pytest.raises(LCAError, match="of the model: expected float64, in which .* was recorded, found float32"):
        lca.Recorder(run.path, in_kind(torch.float32).model, resume=True).__enter__()


def test_steps_that_float32_would_lose_are_integrated(tmp_path):
    problem = in_kind(torch.float64)
    run = recorded(tmp_path / "run.zarr", problem, rate=1e-7)
    lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu"))
    x, y = problem.train
    loss = lambda model: nn.functional.cross_entropy(model(x), y)
    require_brute_force(lca.open(run.path), "train", problem.model, loss, 1e-6)


def test_the_total_is_refined_as_far_as_float64_goes(tmp_path):
    problem = in_kind(torch.float64)
    run = recorded(tmp_path / "run.zarr", problem, rate=1.0)
    config = lca.AllocateConfig(device="cpu", total_tolerance=1e-9, max_intervals=1024)
    summary = lca.allocate(run.path, problem, config)
    assert summary.refined > 0
    assert summary.within_bounds


def test_still_iterations_of_float64_are_seen(tmp_path):
    model = nn.Linear(2, 3).double()
    nn.init.zeros_(model.weight)  # of whose 64 bits the lower half is the same before and after
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(4):
            with torch.no_grad():
                model.weight += 0.5 * (t != 2)
            recorder.record()
    result = verify(tmp_path / "run.zarr")
    assert result.findings == []
    assert any("1 iteration without any motion, the first of them 2" in remark for remark in result.remarks)


def test_every_codec_holds_float64(tmp_path):
    for codec in ("zstd", "lz4", "pcodec"):
        problem, thetas = in_kind(torch.float64), []
        with lca.Recorder(tmp_path / f"{codec}.zarr", problem.model, codec=codec) as recorder:
            thetas.append(flatten(problem.model).numpy())
            with torch.no_grad():
                for p in problem.model.parameters():
                    p += 1e-9
            recorder.record()
            thetas.append(flatten(problem.model).numpy())
        np.testing.assert_array_equal(lca.open(tmp_path / f"{codec}.zarr").weights[:], np.stack(thetas, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_of_16_bits_are_integrated_in_float32(tmp_path, dtype):
    """The iterates are those of 16 bits, exactly; the path between them and the loss are not rounded to such."""
    problem = in_kind(dtype)
    problem.model[0].bias.grad = torch.ones_like(problem.model[0].bias)
    run = recorded(tmp_path / "run.zarr", problem, rate=0.5)
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


def test_a_loss_that_casts_to_16_bits_is_told_what_to_cast_to(tmp_path):
    problem = in_kind(torch.bfloat16, data=torch.float32)
    casting = lambda model, batch: cross_entropy(model, (batch[0].bfloat16(), batch[1]))
    problem = replace(problem, losses=casting, correct=None)
    run = recorded(tmp_path / "run.zarr", problem)
    with pytest.raises(LCAError, match=r"its code casts to 16 bits by itself.*next\(model\.parameters\(\)\)\.dtype"):
        lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu"))
    as_it_is = lambda model, batch: cross_entropy(model, (batch[0].to(next(model.parameters()).dtype), batch[1]))
    lca.allocate(run.path, replace(problem, losses=as_it_is), lca.AllocateConfig(device="cpu"))


def test_a_part_in_16_bits_is_as_wide_as_the_rest(tmp_path):
    """Adapters in float32 beside a frozen base in bfloat16, which is cast in between."""

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
    run = recorded(tmp_path / "run.zarr", given)
    assert [p.name for p in run.parameters] == ["head.weight", "head.bias"]
    assert lca.allocate(run.path, given, lca.AllocateConfig(device="cpu")).within_bounds
    x, y = given.train
    loss = lambda model: nn.functional.cross_entropy(model(x.double()), y)
    require_brute_force(lca.open(run.path), "train", given.model, loss, 1e-3)
    assert given.model.base.weight.dtype == given.model.shift.dtype == torch.bfloat16


def test_complex_parameters_are_refused_with_a_way_out(tmp_path):
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.z = nn.Parameter(torch.zeros(3, dtype=torch.complex64))

    with pytest.raises(LCAError, match=r"z is torch\.complex64; a loss change is allocated to real .*view_as_real"):
        lca.Recorder(tmp_path / "run.zarr", Complex())
    model = Complex()
    model.z = nn.Parameter(torch.view_as_real(model.z.detach()))  # what the error tells
    with lca.Recorder(tmp_path / "run.zarr", model):
        pass
    assert lca.open(tmp_path / "run.zarr").parameters.size == 6


class LowRank(nn.Module):
    """A frozen layer with a trained correction of rank 2."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(2, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


def test_low_rank_adapters_alone_are_recorded_and_allocated(tmp_path):
    torch.manual_seed(0)
    given = small_problem(model=nn.Sequential(LowRank(nn.Linear(2, 8)), nn.Tanh(), LowRank(nn.Linear(8, 3))))
    run = recorded(tmp_path / "run.zarr", given)
    assert [p.name for p in run.parameters] == ["0.a", "0.b", "2.a", "2.b"]
    assert lca.allocate(run.path, given, lca.AllocateConfig(device="cpu")).within_bounds
    x, y = given.train
    loss = lambda model: nn.functional.cross_entropy(model(x.double()), y)
    require_brute_force(lca.open(run.path), "train", given.model, loss, 0.01)


# Losses by token -----------------------------------------------------------------------------------------------------

VOCABULARY, LONGEST = 7, 6


def sentences(n=60):
    """Tokens, and the ones that follow; −1 from where a sentence of 1 to 6 words ends."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCABULARY, (n, LONGEST + 1), generator=generator)
    lengths = torch.arange(n) % LONGEST + 1
    ended = torch.arange(LONGEST) >= lengths[:, None]
    return tokens[:, :-1], tokens[:, 1:].masked_fill(ended, -1)


class Reader(nn.Module):
    """A GRU whose embedding is its output layer too."""

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


def by_token(model, batch):
    tokens, following = batch
    logits = model(tokens)
    return nn.functional.cross_entropy(logits.mT, following, ignore_index=-1, reduction="none")


def of_text(**options):
    return lca.Problem(Reader(), by_token, sentences(), weigh=lambda batch: batch[1] >= 0, name="text", **options)


def mean_by_token(model):
    """By torch's own mean, which leaves out what is ignored."""
    model.gru.dropout = 0.0
    tokens, following = sentences()
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten(), ignore_index=-1)


@pytest.mark.parametrize("batch_size", [7, 60])
def test_a_loss_by_token_weighs_by_token(batch_size):
    problem = of_text()
    reference = copy.deepcopy(problem.model).double()
    loss = mean_by_token(reference)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(reference.parameters()))])
    with FullGradient(Objective(problem.model, by_token, problem.train, weigh=problem.weigh), batch_size) as full:
        theta = full.theta.clone()
        found, mean = full(theta), full.compute_mean(theta)
        of_sentences, lengths = full.compute_by_example(theta), full.compute_weights()
    assert float(found.loss) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert float(mean) == pytest.approx(float(loss.detach()), rel=1e-6)
    torch.testing.assert_close(found.gradient.double(), gradient, rtol=1e-4, atol=1e-6)
    assert lengths.tolist() == (torch.arange(60) % LONGEST + 1).tolist()
    assert float(of_sentences.sum() / lengths.sum()) == pytest.approx(float(loss.detach()), rel=1e-5)


def test_a_model_of_language_is_trained_allocated_and_told_apart_by_kind_of_token(tmp_path):
    problem = of_text(groups=lambda batch: torch.where(batch[1] < 0, 9, batch[1] % 3))  # padding weighs nothing
    path = tmp_path / "run.zarr"
    lca.train(problem, path, lca.TrainConfig(batch_size=20, iterations=9, learning_rate=0.5, device="cpu"))
    run = lca.open(path)
    first = next(draw_indices(60, 20, seed=0))
    losses, words = by_token(Reader().eval(), [x[first] for x in sentences()]), sentences()[1][first] >= 0
    of_all = lca.AllocateConfig(device="cpu", by_class=True, batch_size=25)
    assert run.training["loss"][0] == pytest.approx(float(losses[words].mean().detach()), rel=0.05)  # but for dropout
    lca.allocate(path, problem, of_all)
    run = lca.open(path)
    require_brute_force(run, "train", problem.model, mean_by_token, 0.01)
    allocation = run.allocation("train")
    assert allocation.attributes["classes"] == [0, 1, 2]
    np.testing.assert_allclose(allocation.class_lca[:].sum(1), allocation.tensor_lca[:], atol=1e-7)

    tokens, following = sentences()

    def of_kind(model):
        """The part of the loss that the tokens of kind 1 make up."""
        model.gru.dropout = 0.0
        losses = nn.functional.cross_entropy(model(tokens).mT, following, ignore_index=-1, reduction="none")
        return losses[following % 3 == 1].sum() / (following >= 0).sum()

    weights = torch.from_numpy(run.weights[:, 3:5]).double()
    expected = brute_force(problem.model, of_kind, weights[:, 0], weights[:, 1])
    by_tensor = np.array([float(expected[p.span].sum()) for p in run.parameters])
    np.testing.assert_allclose(allocation.class_lca[3, 1], by_tensor, atol=0.01 * np.abs(by_tensor).sum())


def test_a_subset_of_weighted_examples_has_a_standard_error(tmp_path):
    problem = of_text()
    path = tmp_path / "run.zarr"
    lca.train(problem, path, lca.TrainConfig(batch_size=20, iterations=3, learning_rate=0.5, device="cpu"))
    summary = lca.allocate(path, problem, lca.AllocateConfig(device="cpu", examples=30))
    assert summary.examples == 30
    assert 0 < summary.standard_error["start"] < 0.2
    whole = lca.allocate(path, problem, lca.AllocateConfig(device="cpu", name="whole"))
    assert abs(summary.loss_start - whole.loss_start) < 4 * summary.standard_error["start"]


def test_examples_that_weigh_differently(tmp_path):
    """(B,) weights: the weighted mean, for the loss, the accuracy, a part of the examples, and in bfloat16."""
    given = small_problem()
    weigh = lambda batch: 1.0 + (batch[1] == 2) * 3  # the third class counts four times
    problem = replace(given, weigh=weigh)
    path = recorded(tmp_path / "run.zarr", problem).path
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


def test_what_weighs_nothing_may_be_anything():
    """Also not finite; and a mini-batch of nothing else does not move the model."""
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


def test_two_classes_of_one_name_are_refused():
    given = small_problem()
    with pytest.raises(UsageError, match="the same name for two labels: a, b, a"):
        replace(given, group_names={0: "a", 1: "b", 2: "a"})


def test_a_loss_by_token_without_weights_is_told_what_it_lacks():
    problem = lca.Problem(Reader(), by_token, sentences())
    with (
        FullGradient(Objective(problem.model, by_token, problem.train), 20) as full,
        pytest.raises(
            LCAError, match=r"for a batch of 20.*found a tensor of shape \(20, 6\).*For a loss per token.*weigh"
        ),
    ):
        full(full.theta)


def test_labels_for_tokens_need_losses_for_tokens(tmp_path):
    given, groups = small_problem(), lambda batch: torch.zeros(len(batch[0]), 2).long()
    with (
        FullGradient(Objective(given.model, cross_entropy, given.train, groups=groups), 20) as full,
        pytest.raises(LCAError, match=r"one for each loss, shape \(20,\).*found shape \(20, 2\)"),
    ):
        full(full.theta, torch.ones(full.table.size))


# Buffers -------------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Counts its forward passes in a buffer, and, if told so, gives it to the loss."""

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


def test_buffers_are_used_and_come_out_as_they_went_in(tmp_path):
    given = small_problem(model=Counting(matters=False))
    run = recorded(tmp_path / "run.zarr", given)
    n = float(given.model.n)
    assert lca.allocate(run.path, given, lca.AllocateConfig(device="cpu")).within_bounds
    assert float(given.model.n) == n
    assert len(given.model.cache) == 20  # that of the training
    x, y = given.train
    loss = lambda model: nn.functional.cross_entropy(model(x.double()), y)
    require_brute_force(lca.open(run.path), "train", given.model, loss, 0.01)


def test_a_buffer_that_makes_the_loss_another_each_time_is_named(tmp_path):
    given = small_problem(model=Counting(matters=True))
    run = recorded(tmp_path / "run.zarr", given)
    with pytest.raises(LCAError, match="not a function of the parameters.*A pass changes the buffer n;"):
        lca.allocate(run.path, given, lca.AllocateConfig(device="cpu"))
    assert lca.open(run.path).allocations == [] or not lca.open(run.path).allocation("train").n_allocated


def test_a_compiled_model_in_16_bits(tmp_path):
    problem = in_kind(torch.bfloat16)
    run = recorded(tmp_path / "run.zarr", problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile's own, which differ from release to release
        summary = lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu", compile=True, name="compiled"))
    lca.allocate(run.path, problem, lca.AllocateConfig(device="cpu"))
    assert summary.within_bounds
    run = lca.open(run.path)
    np.testing.assert_allclose(run.allocation("compiled").lca[:], run.allocation("train").lca[:], atol=1e-6)
