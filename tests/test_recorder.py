import pytest
import torch
from torch import nn

import lca
from lca.errors import LCAError
from lca.parameters import flatten


def train(model, n, after):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    after(optimizer)
    for _ in range(n):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("n", [0, 1, 62, 63, 64, 65, 150])
def test_every_iterate_of_any_loop_bit_for_bit(tmp_path, n):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    seen = [flatten(model)]
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:

        def after(optimizer):
            recorder.attach(optimizer)
            optimizer.register_step_post_hook(lambda *_: seen.append(flatten(model)))

        train(model, n, after)
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates, run.n_iterations) == ("complete", n + 1, n)
    assert torch.equal(torch.from_numpy(run.weights[:]).T, torch.stack(seen))


def test_scalars_go_to_the_iteration_that_led_to_the_iterate(tmp_path):
    model = nn.Linear(2, 1)
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(130):
            recorder.record(loss=torch.tensor(float(t)), temperature=2.0 * t)
    training = lca.open(tmp_path / "run.zarr").training
    assert training["loss"][:].tolist() == list(range(130))
    assert training["temperature"][:].tolist() == [2 * t for t in range(130)]


def test_an_exception_leaves_the_iterates_readable_and_the_run_unfinished(tmp_path):
    model = nn.Linear(2, 1)
    with pytest.raises(KeyboardInterrupt), lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for _ in range(70):
            recorder.record(loss=0.0)
        raise KeyboardInterrupt
    run = lca.open(tmp_path / "run.zarr")
    assert (run.status, run.n_iterates) == ("training", 71)
    assert torch.equal(torch.from_numpy(run.weights[:, 70]), flatten(model))


def test_what_float32_cannot_hold_is_refused(tmp_path):
    with pytest.raises(LCAError, match=r"weight is torch.float64; a run store holds float32"):
        lca.Recorder(tmp_path / "run.zarr", nn.Linear(2, 1).double())
