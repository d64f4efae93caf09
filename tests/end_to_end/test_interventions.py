"""The effects of L2 penalties and frozen layers on the allocated loss change."""

import pytest
import torch

import lca

T = 8


def train(tmp_path, problem, **options):
    """Train the small problem, with three mini-batches per epoch. Return the iterates, shape (T+1, K), and the run."""
    config = lca.TrainConfig(**{"batch_size": 20, "iterations": T, "learning_rate": 0.1, "device": "cpu", **options})
    run = lca.train(problem(), tmp_path / "run.zarr", config)
    return torch.from_numpy(run.weights[:]).T.double(), run


FIRST, LAST = slice(0, 24), slice(24, 51)  # the parameters of the two layers, with their biases


def test_allocated_loss_excludes_the_l2_penalty(tmp_path, problem):
    thetas, _ = train(tmp_path, problem, momentum=0.0, l2=0.3)
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(device="cpu"))
    (x, y), model = problem().train, problem().model
    torch.nn.utils.vector_to_parameters(thetas[-1].float(), model.parameters())
    assert summary.loss_end == pytest.approx(float(torch.nn.functional.cross_entropy(model(x), y).detach()), rel=1e-5)
    assert summary.within_bounds


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_frozen_layers_do_not_move_and_have_zero_lca(tmp_path, problem, optimizer):
    rate = {"sgd": 0.1}.get(optimizer, 0.01)
    thetas, run = train(tmp_path, problem, optimizer=optimizer, learning_rate=rate, freeze=["first", "last@5"])
    moved = thetas[1:] != thetas[:-1]
    assert not moved[:, FIRST].any()
    assert moved[:5, LAST].any(dim=1).all()
    assert not moved[5:].any()
    assert [p.name for p in run.parameters] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    given = problem()
    lca.allocate(tmp_path / "run.zarr", given, lca.AllocateConfig(device="cpu"))
    allocation = lca.open(tmp_path / "run.zarr").allocation("train")
    assert not allocation.lca[FIRST].any()
    assert not allocation.tensor_lca[:, :2].any()
    assert not allocation.lca[:, 5:].any()
    assert allocation.tensor_lca[:5, 2:].all()
