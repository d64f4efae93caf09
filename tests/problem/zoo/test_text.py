"""The source of Python's standard library as a dataset, and the transformer that is trained on it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.model.parameters import build_table
from lca.problem.zoo import text
from lca.problem.zoo.presets import PRESETS
from lca.problem.zoo.text import ALPHABET, CONTEXT, KINDS, encode
from lca.problem.zoo.transformer import transformer

SOURCE = "def F(x):\n    return x + 10  # café\n"


def decode(codes):
    return "".join(ALPHABET[code] for code in codes)


def test_text_is_split_into_windows_without_overlap():
    windows = encode(SOURCE * 10)
    assert windows.shape == (len(SOURCE) * 10 // (CONTEXT + 1), CONTEXT + 1)
    assert decode(windows.ravel()) == (SOURCE * 10)[: windows.size].replace("é", "�")


def test_every_character_has_a_kind():
    codes = torch.tensor([text.CODES.get(c, text.CODES["�"]) for c in SOURCE])[None]
    kinds = [KINDS[kind] for kind in text.groups((codes[:, :-1], codes[:, 1:]))[0]]
    found = dict(zip(range(1, len(SOURCE)), kinds, strict=True))
    by_kind = {kind: "".join(SOURCE[i] for i in found if found[i] == kind) for kind in KINDS}
    assert by_kind == {
        "lower case": "efxreturnxcaf",
        "upper case": "F",
        "digit": "10",
        "punctuation": "():+#é",
        "space": " " * 6,  # including the first of two
        "indentation": " " * 5,  # at the beginning of a line, and after another space
        "newline": "\n\n",
    }


def test_standard_library_is_loaded_reproducibly():
    a, b = (text.standard_library(None, False) for _ in range(2))
    assert torch.equal(a.train, b.train)
    assert (a.train.shape, a.val.shape) == ((text.N_TRAIN, CONTEXT + 1), (text.N_VAL, CONTEXT + 1))
    assert a.train.dtype == torch.uint8
    windows = {bytes(row) for row in a.train.numpy()}
    assert len(windows & {bytes(row) for row in a.val.numpy()}) < 10  # lines of a license may occur twice
    assert "import" in decode(a.train.ravel().numpy())


def test_python_without_source_files_is_reported(tmp_path, monkeypatch):
    (tmp_path / "os.py").write_text(SOURCE * 100)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(
        LCAError, match=r"in windows of 65 characters: expected at least 2,500 windows, found 5\d. Use a Python"
    ):
        text.standard_library(None, False)


def test_transformer_equals_an_explicit_computation():
    """The output is computed again from the parameters, with attention written as an explicit sum."""
    torch.manual_seed(0)
    model = transformer(11, 6, blocks=2, width=0.125).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    p, f, C = dict(model.named_parameters()), nn.functional, 8
    tokens = torch.randint(11, (3, 5))

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def norm(x, name):
        centered = x - x.mean(-1, keepdim=True)
        return (
            centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.weight"]
            + p[f"{name}.bias"]
        )

    def attention(x, name):
        query, key, value = linear(x, f"{name}.query_key_value").split(C, dim=-1)
        out = torch.zeros_like(x)
        for head in range(4):
            part = slice(2 * head, 2 * head + 2)
            for s in range(5):  # each position attends to itself and to earlier ones
                scores = (query[:, s : s + 1, part] * key[:, : s + 1, part]).sum(-1) / math.sqrt(2)
                out[:, s, part] = (scores.softmax(-1)[..., None] * value[:, : s + 1, part]).sum(1)
        return linear(out, f"{name}.out")

    x = p["embedding.weight"][tokens] + p["position.weight"][:5]
    for i in range(2):
        x = x + attention(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attention")
        x = x + linear(f.gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.dense1")), f"blocks.{i}.dense2")
    torch.testing.assert_close(model(tokens), norm(x, "norm") @ p["embedding.weight"].T)


def test_size_and_initial_weights_of_the_transformer():
    torch.manual_seed(0)
    model = PRESETS["charlm-transformer"].network()
    table = build_table(model)
    C, V, blocks = 64, 97, 4
    assert table.size == V * C + 64 * C + 2 * C + blocks * (12 * C * C + 13 * C) == 210_368
    assert "out.weight" not in [p.name for p in table]
    p = {name: tensor.detach() for name, tensor in model.named_parameters()}
    assert float(p["embedding.weight"].std()) == pytest.approx(0.02, rel=0.05)
    assert float(p["blocks.3.dense2.weight"].std()) == pytest.approx(0.02 / math.sqrt(8), rel=0.05)
    with pytest.raises(
        UsageError, match="blocks and width: expected .* 64 · width is a multiple of 4, found .* 70 channels"
    ):
        transformer(97, 64, width=1.1)


def test_training_and_allocation_by_kind_of_character(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "N_TRAIN", 30)
    monkeypatch.setattr(text, "N_VAL", 10)
    problem = lca.load("charlm-transformer", options={"blocks": 1, "width": 0.125})
    path = tmp_path / "run.zarr"
    config = lca.TrainConfig(optimizer="adam", learning_rate=0.01, iterations=4, batch_size=10, device="cpu")
    lca.train(problem, path, config)
    summary = lca.allocate(path, problem, lca.AllocateConfig(device="cpu", by_class=True, examples=20))
    assert summary.within_bounds
    assert summary.loss_start == pytest.approx(math.log(97), rel=0.01)
    run = lca.open(path)
    allocation = run.allocation("train")
    assert set(allocation.classes) <= set(KINDS)
    np.testing.assert_allclose(allocation.class_lca[:].sum(1), allocation.tensor_lca[:], atol=1e-7)
    layers = lca.analysis.layers(run)
    assert layers.classes == allocation.classes
    np.testing.assert_allclose(layers.by_class.sum(0), layers.total, atol=1e-6)
    assert lca.analysis.prune(run, lca.Evaluator(problem)).accuracy["train"].shape[0] == 3
