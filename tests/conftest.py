import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import lca


@pytest.fixture
def problem():
    """A function that makes the same small problem anew: 60 points in three overlapping clouds, a 2-8-3 tanh net."""
    return small_problem


def small_problem(seed=0, model=None, n_examples=60):
    generator = torch.Generator().manual_seed(7)
    centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])

    def examples(n):
        y = torch.arange(n) % 3
        return centres[y] + torch.randn(n, 2, generator=generator), y

    if model is None:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
    return lca.Problem(model, train=examples(n_examples), val=examples(15), name="small")


@pytest.fixture
def run(tmp_path, problem):
    """The path of a run of 100 iterations (two blocks), not yet allocated."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=100, learning_rate=0.1, device="cpu"))
    return path


@pytest.fixture
def clean_imports(monkeypatch, tmp_path_factory):
    """Imports as in a new process: no folder and no module of the user code of another test."""
    base = tmp_path_factory.getbasetemp()

    def forget():
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(base):
                del sys.modules[name]

    monkeypatch.setattr(sys, "path", [place for place in sys.path if not Path(place).is_relative_to(base)])
    forget()
    yield
    forget()
