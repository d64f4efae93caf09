import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.errors import LCAError, UsageError
from lca.model.parameters import flatten
from lca.recording import resume_state as checkpoint
from lca.store import run as store
from lca.training.batch_order import draw_indices


def recorded(path):
    return torch.from_numpy(lca.open(path).weights[:]).T


def test_the_iterates_are_those_of_sgd_with_momentum(tmp_path, problem):
    """v ← μ v + g, θ ← θ − η v, worked out from the recorded iterates and autograd alone."""
    config = lca.TrainConfig(batch_size=20, iterations=10, learning_rate=0.1, momentum=0.8, seed=3, device="cpu")
    lca.train(problem(), tmp_path / "run.zarr", config)
    thetas, (x, y) = recorded(tmp_path / "run.zarr"), problem().train
    model, velocity = problem().model, 0
    losses = []
    for theta, after, index in zip(thetas, thetas[1:], draw_indices(60, 20, seed=3), strict=False):
        torch.nn.utils.vector_to_parameters(theta.clone(), model.parameters())
        loss = torch.nn.functional.cross_entropy(model(x[index]), y[index])
        losses.append(float(loss.detach()))
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])
        velocity = 0.8 * velocity + gradient
        torch.testing.assert_close(after, theta - 0.1 * velocity, rtol=1e-5, atol=1e-6)
    assert len(losses) == 10
    run = lca.open(tmp_path / "run.zarr")
    np.testing.assert_allclose(run.training["loss"][:], losses, rtol=1e-5)
    assert run.training["learning_rate"][:].tolist() == [0.1] * 10


def test_the_first_iterate_is_the_model_before_training(tmp_path, problem):
    before = flatten(problem().model)
    trained = problem()
    lca.train(trained, tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=5, device="cpu"))
    thetas = recorded(tmp_path / "run.zarr")
    assert torch.equal(thetas[0], before)
    assert torch.equal(thetas[-1], flatten(trained.model))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_the_seed_decides_everything(tmp_path, problem, optimizer):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = lca.TrainConfig(optimizer=optimizer, batch_size=20, iterations=8, seed=seed, device="cpu")
        lca.train(problem(), tmp_path / name, config)
        torch.rand(3)  # what others draw does not matter
    a, b, c = (recorded(tmp_path / name) for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_seed_decides_dropout(tmp_path, problem):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    for n_drawn, name in enumerate("ab"):
        given = problem(model=model())
        torch.rand(n_drawn)
        lca.train(given, tmp_path / name, lca.TrainConfig(batch_size=20, iterations=8, device="cpu"))
    a, b = (recorded(tmp_path / name) for name in "ab")
    assert torch.equal(a, b)


def test_every_epoch_is_a_new_permutation_less_its_last_partial_batch():
    drawn = draw_indices(50, 8, seed=0)
    epochs = [torch.cat([next(drawn) for _ in range(6)]).tolist() for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 48
        assert set(epoch) <= set(range(50))
    assert epochs[0] != epochs[1] != epochs[2]


def test_epochs_become_iterations(tmp_path, problem):
    run = lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=25, epochs=3, device="cpu"))
    assert run.n_iterations == 6
    assert run.attributes["train"]["iterations"] == 6


def test_what_is_not_given_is_resolved():
    assert (lca.TrainConfig().learning_rate, lca.TrainConfig().momentum, lca.TrainConfig().epochs) == (0.05, 0.9, 1)
    adam = lca.TrainConfig(optimizer="adam", iterations=3)
    assert (adam.learning_rate, adam.momentum, adam.epochs) == (0.001, None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'; the known ones are sgd, adam, adamw, rmsprop"),
        ({"optimizer": "adam", "momentum": 0.9}, "adam has no momentum"),
        ({"epochs": 1, "iterations": 1}, "not both"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"iterations": -3}, "iterations is -3"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        lca.TrainConfig(**options)


def test_a_batch_larger_than_the_split_is_refused(tmp_path, problem):
    with pytest.raises(UsageError, match="a batch of 61 is larger than the training split of 60"):
        lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=61))
    assert not (tmp_path / "run.zarr").exists()


def test_a_device_that_is_not_there_is_named(tmp_path, problem):
    with pytest.raises(UsageError, match="device 'abacus' does not work here"):
        lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, device="abacus"))


@pytest.mark.parametrize(("suffix", "iterate"), [("", 100), ("@0", 0), ("@37", 37)])
def test_a_run_starts_from_an_iterate_of_another(tmp_path, run, problem, suffix, iterate):
    config = lca.TrainConfig(batch_size=20, iterations=5, init_from=f"{run}{suffix}", device="cpu", seed=3)
    started = lca.train(problem(seed=9), tmp_path / "next.zarr", config)
    assert torch.equal(recorded(tmp_path / "next.zarr")[0], recorded(run)[iterate])
    assert started.attributes["initial"] == {"run": str(run), "iterate": iterate}


def test_a_place_to_start_from_that_is_not_there(tmp_path, run, problem):
    unfinished = tmp_path / "unfinished.zarr"
    with pytest.raises(ZeroDivisionError), lca.Recorder(unfinished, problem().model):
        raise ZeroDivisionError
    for source, message in (
        (f"{run}@101", "has no iterate 101; it has 101 of them, 0 first"),
        (f"{tmp_path}/none.zarr@3", "none.zarr does not exist"),
        (f"{unfinished}", "is unfinished, so its last iterate is not yet known"),
        (f"{tmp_path}/next.zarr", "next.zarr does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            lca.train(problem(), tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, init_from=source))
    other = problem(model=nn.Linear(2, 3))
    with pytest.raises(LCAError, match=r"the model is not the model that .*run.zarr was recorded from"):
        lca.train(other, tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, init_from=str(run)))
    assert not (tmp_path / "next.zarr").exists()
    with pytest.raises(UsageError, match="is to start from itself"):
        lca.train(problem(), run, lca.TrainConfig(batch_size=20, init_from=str(run)), overwrite=True)
    assert lca.open(run).n_iterations == 100


def test_a_run_with_an_at_in_its_name_may_be_started_from(tmp_path, run, problem):
    run.rename(tmp_path / "run@7")
    config = lca.TrainConfig(batch_size=20, iterations=5, init_from=f"{tmp_path}/run@7", device="cpu")
    assert lca.train(problem(), tmp_path / "next.zarr", config).attributes["initial"]["iterate"] == 100


def test_resuming_needs_no_source_where_a_state_is_there(tmp_path, run, problem):
    path, config = tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, iterations=5, init_from=str(run))
    lca.train(problem(), path, config)
    before = recorded(path)
    store.open_run(path, "r+").reopen()
    run.rename(tmp_path / "elsewhere.zarr")
    lca.train(problem(), path, config, resume=True)
    assert torch.equal(recorded(path), before)


def test_resuming_starts_from_the_iterate_of_the_first_time(tmp_path, run, problem):
    """Also where there is no state yet, and the last iterate of the source has become another since."""
    path, config = tmp_path / "next.zarr", lca.TrainConfig(batch_size=20, iterations=5, init_from=str(run))
    source = store.open_run(run, "r+")
    source.truncate(38)
    source.finish()
    lca.train(problem(), path, config)
    before = recorded(path)
    store.open_run(path, "r+").reopen()
    (path / checkpoint.FILE).unlink()
    assert torch.equal(before[0], recorded(run)[37])
    lca.train(problem(), run, lca.TrainConfig(batch_size=20, iterations=50), overwrite=True)
    lca.train(problem(), path, config, resume=True)
    assert torch.equal(recorded(path)[0], recorded(run)[37])
    assert lca.open(path).attributes["initial"]["iterate"] == 37
