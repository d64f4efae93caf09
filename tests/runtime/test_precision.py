import subprocess
import sys

import pytest
import torch

import lca
from lca.errors import UsageError
from lca.runtime.precision import use_precision

CPU = torch.device("cpu")


def flags():
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    kinds = (torch.backends.cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn, cudnn.conv, cudnn.rnn)
    return [kind.fp32_precision for kind in kinds]


def test_fp32_overrides_the_settings_of_the_caller():
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
def test_fp32_overrides_a_setting_for_all_backends(generic):
    code = f"""
import torch
from lca.runtime.precision import use_precision
cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
kinds = (torch.backends.cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn, cudnn.conv, cudnn.rnn)
torch.backends.fp32_precision = "{generic}"
before = [kind.fp32_precision for kind in kinds], cudnn.deterministic, cudnn.benchmark
with use_precision("fp32", torch.device("cpu")):
    assert [kind.fp32_precision for kind in kinds] == ["ieee"] * 6
    assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
assert ([kind.fp32_precision for kind in kinds], cudnn.deterministic, cudnn.benchmark) == before
"""  # in a separate process, because the setting cannot be undone
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tf32_needs_cuda(run, problem):
    with pytest.raises(UsageError, match="precision: expected fp32 or bf16 on cpu .tf32 needs CUDA., found tf32"):
        lca.allocate(run, problem(), lca.AllocateConfig(precision="tf32", device="cpu"))
