import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.allocation.full_gradient import FullGradient
from lca.errors import UsageError
from lca.model.parameters import flatten
from lca.problem.losses import cross_entropy
from lca.runtime.cuda_graph import capture
from lca.runtime.precision import use_precision

CPU = torch.device("cpu")


def flags():
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    kinds = (torch.backends.cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn, cudnn.conv, cudnn.rnn)
    return [kind.fp32_precision for kind in kinds]


def test_float32_means_float32_whatever_the_caller_has_set():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 64, generator=generator), torch.randn(64, 64, generator=generator)
    before = flags()
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            with use_precision("fp32", CPU):
                exact = a @ b
                assert flags() == ["ieee"] * 6
            rough = a @ b
        assert flags()[1] == "bf16"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before[1]
    assert flags() == before
    assert (exact.dtype, rough.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(exact.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("generic", ["ieee", "tf32", "bf16"])
def test_it_does_also_where_the_caller_has_set_it_for_all_backends_at_once(generic):
    code = f"""
import torch
from lca.precision import in_precision
cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
kinds = (torch.backends.cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn, cudnn.conv, cudnn.rnn)
torch.backends.fp32_precision = "{generic}"
before = [kind.fp32_precision for kind in kinds], cudnn.deterministic, cudnn.benchmark
with in_precision("fp32", torch.device("cpu")):
    assert [kind.fp32_precision for kind in kinds] == ["ieee"] * 6
    assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
assert ([kind.fp32_precision for kind in kinds], cudnn.deterministic, cudnn.benchmark) == before
"""  # in a process of its own, because it cannot be taken back
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bfloat16_rounds_products_and_not_the_loss_at_an_iterate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(50, 5), torch.randint(3, (50,))
    with FullGradient(model, cross_entropy, (x, y), 20) as full:
        exact = full(flatten(model))
    with FullGradient(model, cross_entropy, (x, y), 20, precision="bf16") as full:
        theta = full.theta.clone()
        rough, at_iterate, float32 = full(theta), full.at_iterate(theta), full.in_full(theta)
    apart = float((rough.gradient - exact.gradient).norm() / exact.gradient.norm())
    assert 1e-4 < apart < 2e-2
    assert rough.gradient.dtype == torch.float32
    assert float(rough.loss) != float(exact.loss)
    assert float(at_iterate.loss) == pytest.approx(float(exact.loss), rel=1e-6)
    assert torch.equal(float32.gradient, exact.gradient)
    assert torch.equal(at_iterate.gradient, rough.gradient)


def test_the_audit_tells_what_a_precision_costs(run, problem):
    """Its reference is in float32, so the error of bfloat16 shows in the parts, not only that of the rule."""
    errors = {}
    for precision in ("fp32", "bf16"):
        config = lca.AllocateConfig(name=precision, precision=precision, batch_size=20, device="cpu")
        summary = lca.allocate(run, problem(), config)
        errors[precision] = np.mean(summary.audit.part_error)
        assert lca.open(run).allocation(precision).attributes["precision"] == precision
    assert errors["bf16"] > 10 * errors["fp32"]
    exact, rough = (lca.open(run).allocation(name) for name in ("fp32", "bf16"))
    np.testing.assert_allclose(rough.loss[:], exact.loss[:], rtol=1e-6)


def test_tf32_needs_cuda(run, problem):
    with pytest.raises(UsageError, match="precision tf32 needs a CUDA device, and this is cpu"):
        lca.allocate(run, problem(), lca.AllocateConfig(precision="tf32", device="cpu"))


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's own, while it compiles
def test_a_compiled_model_gives_the_same(run, problem):
    for compiled in (False, True):
        config = lca.AllocateConfig(
            name=f"compile {compiled}", compile=compiled, iterations="0:5", audit=0, batch_size=25, device="cpu"
        )
        given = problem()
        lca.allocate(run, given, config)
        assert set(given.model.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    eager, compiled = (lca.open(run).allocation(f"compile {c}") for c in (False, True))
    assert compiled.attributes["compile"]
    np.testing.assert_allclose(compiled.lca[:, :5], eager.lca[:, :5], rtol=1e-3, atol=1e-7)


def test_without_cuda_nothing_is_captured():
    function = lambda: None
    assert capture(function, CPU) == (function, None)


class NoCapture:
    """torch.cuda, as far as a capture needs it, on a device that refuses, and then cannot end the capture either."""

    def __init__(self):
        self.synchronized, self.current = 0, ["default"]

    CUDAGraph = lambda self: "graph"

    def current_stream(self, device):
        return Stream(self.current[-1])

    @contextmanager
    def stream(self, stream):
        self.current.append(str(stream))
        try:
            yield
        finally:
            del self.current[1:]  # back to the one that was current before, whatever has been left current inside

    def graph(self, graph, stream, capture_error_mode):
        assert (str(stream), capture_error_mode) == ("side", "thread_local")
        self.current.append("side")
        return FailsAtItsEnd()

    def synchronize(self, device):
        self.synchronized += 1


class FailsAtItsEnd:
    def __enter__(self): ...

    def __exit__(self, *exception):
        raise RuntimeError("operation failed due to a previous error during capture")


class Stream(str):
    def wait_stream(self, stream): ...


def test_what_cannot_be_captured_is_run_eagerly_with_a_note(monkeypatch):
    refusing, calls = NoCapture(), []
    refusing.Stream = lambda device: Stream("side")
    monkeypatch.setattr(torch, "cuda", refusing)

    def function():
        calls.append(1)
        if len(calls) == 4:  # after the warm-ups, in the capture
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    run, note = capture(function, torch.device("cuda"))
    assert run is function
    assert note == "no CUDA graph, passes are eager: operation not permitted when stream is capturing"
    assert (refusing.synchronized, refusing.current) == (1, ["default"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_cuda_graph_gives_what_eager_passes_give(batchnorm):
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(8) if batchnorm else nn.Identity()
    model = nn.Sequential(nn.Linear(5, 8), middle, nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(50, 5), torch.arange(50) * 3 // 50
    theta = flatten(model)
    with FullGradient(model, cross_entropy, (x, y), 20, groups=lambda batch: batch[1]) as full:
        expected = [full(theta + 0.1 * i, theta.double()) for i in range(3)]
    model.cuda()
    with FullGradient(model, cross_entropy, (x.cuda(), y.cuda()), 20, groups=lambda batch: batch[1]) as full:
        found = [full(theta.cuda() + 0.1 * i, theta.double().cuda()) for i in range(3)]
        assert full.notes == []
    for a, b in zip(found, expected, strict=True):
        assert float(a.loss) == pytest.approx(float(b.loss), rel=1e-6)
        torch.testing.assert_close(a.gradient.cpu(), b.gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(a.slopes.cpu(), b.slopes, rtol=1e-4, atol=1e-6)
