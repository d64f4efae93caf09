"""The whole pipeline on a simulated accelerator, with and without float64: its numbers, its copies and its waits."""

from contextlib import contextmanager
from dataclasses import replace
from math import log2
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import small_problem
from datasets import Iterated, Listed, losses
from simulated_device import capturing, counts, replay, simulated_device
from torch import nn

import lca
from lca.allocation import steps
from lca.allocation.full_gradient import FullGradient
from lca.errors import LCAError, UsageError
from lca.problem import streaming
from lca.problem.losses import cross_entropy
from lca.problem.objective import prepare
from lca.problem.zoo import networks, text
from lca.problem.zoo.transformer import transformer
from lca.runtime import cuda_graph
from lca.runtime import device as devices

CPU = torch.device("cpu")
CONFIG = {
    "by_class": True,
    "gradient_signs": True,
    "batch_size": 25,
    "channels_last": False,
    "max_intervals": 4,
    "audit": 0,
}


@pytest.fixture(params=[True, False], ids=["float64", "no float64"])
def sim(request):
    with simulated_device(float64=request.param) as device:
        yield device


def make_images(n, *shape):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(n, *shape, generator=generator), torch.arange(n) % 10


def make_problem(kind):
    """Return a small problem with a network of this kind, the same every time."""
    torch.manual_seed(1)
    if kind == "dense":
        return replace(small_problem(), groups=lambda batch: batch[1])
    if kind == "transformer":
        windows = torch.randint(len(text.ALPHABET), (30, 13), generator=torch.Generator().manual_seed(4))
        model = transformer(len(text.ALPHABET), 12, blocks=1, width=0.25)
        return lca.Problem(
            model,
            text.compute_character_losses,
            train=text.split_windows(windows),
            weigh=text.weigh,
            groups=text.groups,
        )
    if kind == "streamed":
        x, y = make_images(30, 6)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 10))
        return lca.Problem(model, losses, train=Listed((x, y)), groups=lambda batch: batch["y"])
    model, shape = {
        "lenet": (networks.lenet(width=0.2), (1, 28, 28)),
        "resnet": (networks.resnet(3, [4, 8, 8], blocks=1), (3, 16, 16)),
        "allcnn": (networks.all_convolutional(width=0.05), (3, 32, 32)),
        "vgg": (networks.vgg(stages=((4,), (8,)), dense=(8,)), (3, 32, 32)),
    }[kind]
    return lca.Problem(model, train=make_images(30, *shape), groups=lambda batch: batch[1])


KINDS = ("dense", "lenet", "resnet", "allcnn", "vgg", "transformer", "streamed")


@pytest.mark.parametrize("kind", KINDS)
def test_the_pipeline_gives_the_numbers_of_the_cpu(sim, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "HOST_SHARE", 0)  # datasets are streamed, because nothing fits in memory
    require_cpu_numbers(kind, tmp_path, iterations=3)


@pytest.mark.parametrize("kind", ["dense", "streamed"])
@pytest.mark.parametrize("float64", [True, False])
def test_copies_that_take_place_as_late_as_allowed_are_complete(kind, float64, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "HOST_SHARE", 0)
    with simulated_device(float64=float64, asynchronous=True):
        require_cpu_numbers(kind, tmp_path, iterations=70)


@pytest.mark.parametrize(
    ("what", "replacement"),
    [
        ("lca.recording.staging.Staging.event", lambda staging: None),
        ("simulated_device.Stream.wait_event", lambda stream, event: None),
    ],
)
def test_the_lack_of_a_wait_would_be_noticed(what, replacement, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "HOST_SHARE", 0)
    with simulated_device(asynchronous=True):
        monkeypatch.setattr(what, replacement)
        with pytest.raises((AssertionError, IndexError, LCAError)):
            require_cpu_numbers("streamed", tmp_path, iterations=70)


def require_cpu_numbers(kind, folder, iterations):
    """Train and allocate on the CPU and on the simulated device, and compare everything that is stored."""
    allocations, weights = [], []
    for name in ("cpu", "sim"):
        path, problem = folder / f"{name}.zarr", make_problem(kind)
        lca.train(problem, path, device=name, batch_size=10, iterations=iterations, learning_rate=0.05)
        lca.allocate(path, problem, device=name, **CONFIG)
        allocations.append(lca.open(path).allocation("train"))
        weights.append(lca.open(path).weights[:])
        assert str(lca.analysis.helping(path))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-6, atol=1e-8, err_msg="weights")
    for array in ("lca", "class_lca", "tensor_lca", "loss", "allocated", "gradient_norm", "motion_norm"):
        cpu, found = (getattr(allocation, array)[:] for allocation in allocations)
        np.testing.assert_allclose(found, cpu, rtol=1e-5, atol=1e-6 * np.abs(cpu).max(), err_msg=array)
    cpu, found = (np.unpackbits(allocation.gradient_sign[:]) for allocation in allocations)
    assert (cpu == found).mean() > 0.995  # the sign of a gradient that is zero except for rounding may differ


def test_the_lack_of_float64_changes_only_the_rounding_of_the_sums_by_class(tmp_path):
    path, found = tmp_path / "run.zarr", []
    lca.train(make_problem("dense"), path, device="cpu", batch_size=10, iterations=20, learning_rate=0.1)
    for float64 in (True, False):
        with simulated_device(float64=float64):
            lca.allocate(path, make_problem("dense"), name=f"float64-{float64}", **CONFIG)
        found.append(lca.open(path).allocation(f"float64-{float64}"))
    for array in ("lca", "allocated", "residual", "tensor_lca", "gradient_norm", "motion_norm", "gradient_sign"):
        np.testing.assert_array_equal(*(getattr(allocation, array)[:] for allocation in found), err_msg=array)
    np.testing.assert_allclose(*(allocation.loss[:] for allocation in found), rtol=1e-14)
    by_class = [allocation.class_lca[:] for allocation in found]
    assert 0 < np.abs(by_class[1] - by_class[0]).sum() < 1e-6 * np.abs(by_class[0]).sum()


@contextmanager
def watched(monkeypatch, owner, name):
    """Append the changes of the counts during each call of owner.name to a list."""
    seen, original = [], getattr(owner, name)

    def watch(*args, **options):
        before = counts.copy()
        result = original(*args, **options)
        seen.append((counts - before, result))
        return result

    monkeypatch.setattr(owner, name, watch)
    yield seen


@pytest.mark.parametrize("kind", ["dense", "resnet", "transformer"])
def test_the_host_waits_once_per_attempt_to_integrate_and_never_in_a_pass(sim, kind, tmp_path, monkeypatch):
    """Without float64, the integration runs on the host, so each pass ends with a copy of the losses and gradient."""
    path, problem = tmp_path / "run.zarr", make_problem(kind)
    lca.train(problem, path, batch_size=10, iterations=5, learning_rate=0.3)
    on_device = devices.has_float64(sim)
    with (
        watched(monkeypatch, FullGradient, "_pass") as passes,
        watched(monkeypatch, FullGradient, "_evaluate") as evaluations,
        watched(monkeypatch, steps, "integrate_iteration") as integrals,
    ):
        lca.allocate(path, problem, tolerance=1e-6, max_intervals=4, batch_size=25, by_class=kind != "dense")
    assert len(passes) == len(evaluations) > 16
    for change, _ in passes:
        assert change["reads"] == change["to the host"] == change["to the device"] == 0
    for change, _ in evaluations:
        assert change["reads"] == 0
        assert change["to the host"] <= (0 if on_device else 3)
    attempts = [round(log2(integral.intervals)) for _, integral in integrals]
    assert max(attempts) > 1
    assert [change["reads"] for change, _ in integrals] == (attempts if on_device else [0] * 5)


def test_training_copies_each_iterate_once_and_reads_nothing_in_a_step(sim, tmp_path):
    """The losses are read together, once per commit."""
    counts_of = {}
    for T in (40, 60):
        counts.clear()
        lca.train(make_problem("dense"), tmp_path / f"{T}.zarr", batch_size=20, iterations=T, learning_rate=0.1)
        counts_of[T] = counts.copy()
    epochs = 20 - 14  # of three iterations; each copies its permutation to the device
    assert counts_of[60]["to the host"] - counts_of[40]["to the host"] == 20
    assert counts_of[60]["to the device"] - counts_of[40]["to the device"] == epochs
    assert counts_of[60]["reads"] == counts_of[40]["reads"] <= 2


@pytest.mark.parametrize("kind", [Listed, Iterated])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_batch_of_a_stream_is_copied_once_per_pass(kind, asynchronous, monkeypatch):
    monkeypatch.setattr(streaming, "HOST_SHARE", 0)
    x, y = make_images(30, 6)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 10))
    with simulated_device(asynchronous=asynchronous) as sim:
        problem = lca.Problem(model.to(sim), losses, train=kind((x, y)))
        with (
            FullGradient(prepare(problem, "train", sim), 8) as gradient,
            watched(monkeypatch, FullGradient, "_pass") as passes,
        ):
            loss = gradient(gradient.theta.clone()).loss.item()
    tensors, batches = 2, 4
    assert passes[0][0]["to the device"] == tensors * batches
    assert loss == pytest.approx(cross_entropy(model.to("cpu"), (x, y)).mean().item(), rel=1e-6)


def test_a_recorder_records_a_loop_on_the_device(sim, tmp_path):
    model = make_problem("dense").model.to(sim)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = (tensor.to(sim) for tensor in small_problem().train)
    iterates, weighed = [], tmp_path / "run.zarr"
    with lca.Recorder(weighed, model) as recorder:
        recorder.attach(optimizer)
        for _ in range(70):
            iterates.append([p.detach().clone() for p in model.parameters()])
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            recorder.log(loss=loss)
            before = counts.copy()
            optimizer.step()
            assert (counts - before)["reads"] == 0
    run = lca.open(weighed)
    expected = [torch.cat([p.cpu().flatten() for p in iterate]).numpy() for iterate in iterates]
    np.testing.assert_array_equal(run.weights[:, :70], np.stack(expected, axis=1))
    assert run.training["loss"][69] == loss.item()


def test_data_in_float64_on_a_device_without_it_is_an_error(tmp_path):
    problem, wide = make_problem("dense"), make_problem("dense").model.double()
    x, y = problem.train
    for given in (replace(problem, train=(x.double(), y)), replace(problem, model=wide)):
        with simulated_device(float64=False), pytest.raises(UsageError, match="sim:0 has no float64"):
            lca.train(given, tmp_path / "run.zarr", batch_size=20, iterations=3, learning_rate=0.1)


class SimulatedCuda:
    """A replacement for torch.cuda that captures the operators of the simulated device."""

    Stream = lambda self, device: SimpleNamespace(wait_stream=lambda stream: None)

    def __init__(self):
        self.captures, self.replays = [], 0

    def CUDAGraph(self):
        operators = []

        def run_again():
            self.replays += 1
            replay(operators)

        self.captures.append(operators)
        return SimpleNamespace(operators=operators, replay=run_again)

    @contextmanager
    def stream(self, stream):
        yield

    def current_stream(self, device):
        return SimpleNamespace(wait_stream=lambda stream: None)

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        with capturing(graph.operators):
            yield

    def synchronize(self, device): ...


@pytest.mark.parametrize("kind", ["dense", "resnet", "transformer"])
@pytest.mark.parametrize("by_class", [False, True])
def test_replayed_graphs_equal_eager_passes(kind, by_class, monkeypatch):
    """A capture refuses reads and copies by the host. A replay runs the same operators on the same memory."""
    cuda = SimulatedCuda()
    with simulated_device() as sim:
        problem = make_problem(kind)
        problem.model.to(sim)
        objective = prepare(problem, "train", sim, by_class=by_class)
        found = {}
        for captured in (False, True):
            if captured:
                monkeypatch.setattr(torch, "cuda", cuda)
                monkeypatch.setattr(cuda_graph, "supports_cuda", lambda device: True)
            with FullGradient(objective, 25) as gradient:
                start = gradient.theta.clone()
                points = [start + 0.1 * i for i in range(3)]
                found[captured] = [gradient(point, point.double(), point.double().square()) for point in points]
                assert not gradient.notes
        assert (len(cuda.captures), cuda.replays) == (1, 3)
        assert len(cuda.captures[0]) > 20
        for eager, replayed in zip(found[False], found[True], strict=True):
            torch.testing.assert_close(replayed.loss.cpu(), eager.loss.cpu())
            torch.testing.assert_close(replayed.gradient.cpu(), eager.gradient.cpu())
            if by_class:
                torch.testing.assert_close(replayed.slopes.cpu(), eager.slopes.cpu())
        assert found[True][0].loss.item() != found[True][1].loss.item()


def test_a_read_in_a_pass_prevents_a_graph(monkeypatch):
    def reading(model, batch):
        loss = cross_entropy(model, batch)
        assert float(loss.detach().sum()) > 0
        return loss

    with simulated_device() as sim:
        problem = make_problem("dense")
        problem.model.to(sim)
        objective = prepare(replace(problem, losses=reading), "train", sim)
        with monkeypatch.context() as patched, FullGradient(objective, 25) as gradient:
            patched.setattr(torch, "cuda", SimulatedCuda())
            patched.setattr(cuda_graph, "supports_cuda", lambda device: True)
            gradient(gradient.theta.clone())
            (note,) = gradient.notes
    assert "operation not permitted when stream is capturing" in note
