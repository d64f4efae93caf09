"""Training is reproducible, and a run that is stopped and resumed ends with the same bytes."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.errors import Interrupted, LCAError, UsageError
from lca.model.parameters import flatten
from lca.problem.losses import cross_entropy
from lca.recording import resume_state
from lca.recording.block_writer import BlockWriter
from lca.store.run import open_run
from lca.training.batch_order import draw_indices

T = 8


def recorded(path):
    return torch.from_numpy(lca.open(path).weights[:]).T


def train(tmp_path, problem, **options):
    """Train the small problem with 20 of 60 examples per mini-batch. Return the iterates, (T + 1, K), and the run."""
    config = lca.TrainConfig(**{"batch_size": 20, "iterations": T, "learning_rate": 0.1, "device": "cpu", **options})
    run = lca.train(problem(), tmp_path / "run.zarr", config)
    return torch.from_numpy(run.weights[:]).T.double(), run


def chunks(path):
    """Return the bytes of every file of the iterates."""
    folder = Path(path) / "weights" / "c"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def noisy():
    """Return a network with dropout and BatchNorm, whose steps depend on the random state and on buffers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def config(**options):
    return lca.TrainConfig(**{"optimizer": "adam", "batch_size": 20, "iterations": 300, "device": "cpu", **options})


@pytest.fixture
def often(monkeypatch):
    """Store a state after every block."""
    monkeypatch.setattr("lca.recording.recorder.COMMIT_S", 0)
    monkeypatch.setattr("lca.recording.recorder.COMMIT_SHARE", float("inf"))


class ActAt:
    """A loss function that performs an action when training calls it for the `call`-th time."""

    def __init__(self, call, action):
        self.calls, self.call, self.action = 0, call, action

    def __call__(self, model, batch):
        self.calls += torch.is_grad_enabled()
        if self.calls == self.call:
            self.action()
        return cross_entropy(model, batch)


def test_iterates_follow_sgd_with_momentum(tmp_path, problem):
    """v ← μ v + g, θ ← θ − η v, computed from the recorded iterates with autograd."""
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


def test_first_iterate_is_the_model_before_training(tmp_path, problem):
    before = flatten(problem().model)
    trained = problem()
    lca.train(trained, tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, iterations=5, device="cpu"))
    thetas = recorded(tmp_path / "run.zarr")
    assert torch.equal(thetas[0], before)
    assert torch.equal(thetas[-1], flatten(trained.model))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_seed_determines_the_iterates(tmp_path, problem, optimizer):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = lca.TrainConfig(optimizer=optimizer, batch_size=20, iterations=8, seed=seed, device="cpu")
        lca.train(problem(), tmp_path / name, config)
        torch.rand(3)  # other uses of the random state do not matter
    a, b, c = (recorded(tmp_path / name) for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_seed_determines_dropout(tmp_path, problem):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    for n_drawn, name in enumerate("ab"):
        given = problem(model=model())
        torch.rand(n_drawn)
        lca.train(given, tmp_path / name, lca.TrainConfig(batch_size=20, iterations=8, device="cpu"))
    a, b = (recorded(tmp_path / name) for name in "ab")
    assert torch.equal(a, b)


def test_epochs_are_converted_to_iterations(tmp_path, problem):
    run = lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=25, epochs=3, device="cpu"))
    assert run.n_iterations == 6
    assert run.attributes["train"]["iterations"] == 6


def test_batch_larger_than_the_split_raises(tmp_path, problem):
    with pytest.raises(UsageError, match="batch_size: expected at most 60, the size of the training split, found 61"):
        lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=61))
    assert not (tmp_path / "run.zarr").exists()


def test_missing_device_is_reported(tmp_path, problem):
    with pytest.raises(UsageError, match="device 'abacus' is not usable"):
        lca.train(problem(), tmp_path / "run.zarr", lca.TrainConfig(batch_size=20, device="abacus"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"freeze": ["last@8"]},
            "last@8 is never reached, because training ends after 8 iterations \\(2.67 epochs\\)",
        ),
        ({"schedule": "step", "milestones": [1, 3]}, "milestone 3 is never reached"),
    ],
)
def test_interventions_after_the_end_raise(tmp_path, problem, options, message):
    with pytest.raises(UsageError, match=message):
        train(tmp_path, problem, **options)
    assert not (tmp_path / "run.zarr").exists()


def test_unknown_layer_raises_before_anything_is_created(tmp_path, problem):
    for options in ({"freeze": ["fc9"]}, {"layers": ["fc9:lr=1"]}):
        with pytest.raises(UsageError, match="no layer matches 'fc9'. The layers are 0, 2."):
            train(tmp_path, problem, **options)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", [1, 63, 64, 65, 200])
def test_resume_after_a_signal_equals_uninterrupted_run(tmp_path, problem, number, call):
    before = signal.getsignal(signal.SIGINT)  # a background process may ignore it
    lca.train(problem(model=noisy()), tmp_path / "whole.zarr", config())
    stopped = lca.Problem(
        noisy(), ActAt(call, lambda: os.kill(os.getpid(), number)), problem().train, problem().val, name="small"
    )
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} after {call} of 300 iterations"):
        lca.train(stopped, tmp_path / "run.zarr", config())
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterations) == ("training", call)
    assert signal.getsignal(signal.SIGINT) is before
    torch.rand(7)  # other uses of the random state do not matter
    resumed = lca.train(problem(model=noisy()), tmp_path / "run.zarr", config(), resume=True)
    assert resumed.status == "complete"
    assert chunks(tmp_path / "run.zarr") == chunks(tmp_path / "whole.zarr")
    for name, array in lca.open(tmp_path / "whole.zarr").training.items():
        assert resumed.training[name][:].tolist() == array[:].tolist(), name


@pytest.mark.parametrize("call", [30, 150, 290])
def test_resume_after_an_exception_starts_from_the_last_state(tmp_path, problem, often, call):
    lca.train(problem(model=noisy()), tmp_path / "whole.zarr", config())
    stopped = lca.Problem(noisy(), ActAt(call, lambda: 1 / 0), problem().train, problem().val, name="small")
    with pytest.raises(ZeroDivisionError):
        lca.train(stopped, tmp_path / "run.zarr", config())
    assert lca.open(tmp_path / "run.zarr").n_iterations == call - 1
    state = resume_state.load(open_run(tmp_path / "run.zarr"))
    assert (state["iterates"] if state else 0) == call // 64 * 64
    lca.train(problem(model=noisy()), tmp_path / "run.zarr", config(), resume=True)
    assert chunks(tmp_path / "run.zarr") == chunks(tmp_path / "whole.zarr")


@pytest.fixture
def long_blocks(monkeypatch):
    """Blocks of up to 1,024 iterates, as outside the tests, which are stored after every iterate."""
    monkeypatch.setattr("lca.store.chunks.LONGEST_BLOCK", 1024)
    monkeypatch.setattr("lca.store.chunks.PARTIAL_S", 0)


def test_a_long_block_is_stored_before_it_is_full(tmp_path, problem, often, long_blocks, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr("lca.store.chunks.PARTIAL_S", 1e9)
        whole = lca.train(problem(model=noisy()), tmp_path / "whole.zarr", config(iterations=160))
    assert whole.blocks.length == 1024
    stopped = lca.Problem(noisy(), ActAt(80, lambda: 1 / 0), problem().train, problem().val, name="small")
    with pytest.raises(ZeroDivisionError):
        lca.train(stopped, tmp_path / "run.zarr", config(iterations=160))
    assert resume_state.load(open_run(tmp_path / "run.zarr"))["iterates"] == 80
    resumed = lca.train(problem(model=noisy()), tmp_path / "run.zarr", config(iterations=160), resume=True)
    assert torch.equal(recorded(tmp_path / "run.zarr"), recorded(tmp_path / "whole.zarr"))
    for name, array in whole.training.items():
        assert resumed.training[name][:].tolist() == array[:].tolist(), name
    assert lca.verify(tmp_path / "run.zarr").findings == []


def test_a_long_block_is_not_rewritten_at_every_iterate_if_that_is_slow(tmp_path, problem, long_blocks, monkeypatch):
    monkeypatch.setattr("lca.recording.recorder.COMMIT_SHARE", 1e-9)
    monkeypatch.setattr(BlockWriter, "commit_s", property(lambda _: 1.0, lambda *_: None), raising=False)
    writes, write = [], BlockWriter.write
    monkeypatch.setattr(BlockWriter, "write", lambda *arguments: writes.append(1) or write(*arguments))
    lca.train(problem(), tmp_path / "run.zarr", config())
    assert len(writes) == 1  # at the end


def test_resuming_continues_schedules_and_interventions(tmp_path, run, problem):
    options = {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "cosine",
        "freeze": ("last@180",),
        "layers": ("first:lr=0.02,momentum=0.5",),
        "l2": 1e-3,
        "init_from": f"{run}@50",
    }
    lca.train(problem(), tmp_path / "whole.zarr", config(**options))
    stopped = lca.Problem(
        problem().model,
        ActAt(150, lambda: os.kill(os.getpid(), signal.SIGINT)),
        problem().train,
        problem().val,
        name="small",
    )
    with pytest.raises(Interrupted):
        lca.train(stopped, tmp_path / "run-2.zarr", config(**options))
    resumed = lca.train(problem(), tmp_path / "run-2.zarr", config(**options), resume=True)
    assert chunks(tmp_path / "run-2.zarr") == chunks(tmp_path / "whole.zarr")
    for name, array in lca.open(tmp_path / "whole.zarr").training.items():
        assert resumed.training[name][:].tolist() == array[:].tolist(), name
    with pytest.raises(UsageError, match=r"freeze: stored \['last@180'\], requested \['last@100'\]"):
        lca.train(problem(), tmp_path / "run-2.zarr", config(**{**options, "freeze": ("last@100",)}), resume=True)


def test_resuming_a_finished_run_changes_nothing(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", config())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run.zarr").rglob("*")}
    assert lca.train(problem(), tmp_path / "run.zarr", config(), resume=True).n_iterations == 300
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run.zarr").rglob("*")} == before


def test_resuming_without_a_run_starts_one(tmp_path, problem):
    assert lca.train(problem(), tmp_path / "run.zarr", config(iterations=5), resume=True).n_iterations == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.5}, "was trained differently \\(learning_rate: stored 0.001, requested 0.5\\)"),
        ({"iterations": 400}, "iterations: stored 300, requested 400"),
        ({"codec": "lz4"}, "codec: stored zstd, requested lz4"),
    ],
)
def test_resuming_with_another_configuration_raises(tmp_path, problem, options, message):
    lca.train(problem(), tmp_path / "run.zarr", config())
    with pytest.raises(UsageError, match=message):
        lca.train(problem(), tmp_path / "run.zarr", config(**options), resume=True)


def test_resuming_with_other_data_or_another_problem_raises(tmp_path, problem):
    lca.train(problem(), tmp_path / "run.zarr", config())
    with pytest.raises(UsageError, match="was trained differently .the data differ"):
        lca.train(problem(n_examples=63), tmp_path / "run.zarr", config(), resume=True)
    other = lca.Problem(problem().model, train=problem().train, val=problem().val, name="other")
    with pytest.raises(UsageError, match="problem: stored small, requested other"):
        lca.train(other, tmp_path / "run.zarr", config(), resume=True)


@pytest.mark.parametrize(("T", "at"), [(30, 7), (200, 70), (300, 129)])
def test_training_that_diverges_stops_and_keeps_the_finite_iterates(tmp_path, problem, T, at):
    """In call `at`, the loss is NaN, so iterate `at` is the first with NaN parameters."""
    path, reference = tmp_path / "run.zarr", tmp_path / "reference.zarr"
    options = {"batch_size": 20, "learning_rate": 0.1, "device": "cpu"}
    calls = 0

    def losses(model, batch):
        nonlocal calls
        calls += torch.is_grad_enabled()
        return cross_entropy(model, batch) * (float("nan") if calls == at else 1.0)

    message = f"training diverged: iteration {at - 1} made a parameter NaN or infinite. .* is complete and ends with"
    with pytest.raises(LCAError, match=message):
        lca.train(replace(problem(), losses=losses), path, **options, iterations=T)
    assert calls <= at + 3 * lca.open(path).blocks.length  # training stopped before the end
    run = lca.train(problem(), reference, **options, iterations=at - 1)
    assert np.array_equal(recorded(path), recorded(reference))
    assert lca.open(path).status == "complete"
    assert lca.open(path).training["loss"].shape == (run.n_iterations,)
    assert not lca.verify(path).findings
    assert "diverged  training stopped when a parameter became NaN" in str(lca.open(path))
    calls = at + 1  # the losses are finite from now on
    assert lca.allocate(path, replace(problem(), losses=losses), device="cpu", audit=0).complete
