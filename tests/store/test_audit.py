import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.store.audit import compare, draw_iterations, mean_with_confidence


def test_the_figures_of_an_iteration():
    coarse = np.array([1.0, -2.0, 0.5, 0.0, -4.0])
    half_way = np.array([1.0, -2.0, -0.2, 0.0, -3.0])
    fine = np.array([2.0, -2.0, -0.5, 0.0, -3.5])
    figures = compare(coarse, half_way, fine)
    assert figures == {
        "part_error": pytest.approx((1 + 1 + 0.5) / 8),
        "half_way": pytest.approx((1 + 0.3 + 0.5) / 8),
        "sign_change": 1 / 4,
        "helping_shift": pytest.approx(100 * 2 / 4 - 100 * 3 / 4),
    }


def test_an_iteration_without_motion_has_no_error():
    zero = np.zeros(3)
    assert set(compare(zero, zero, zero).values()) == {0.0}


def test_the_draw_is_a_fraction_but_at_least_five_and_no_more_than_there_are():
    candidates = list(range(10, 1010))
    drawn = draw_iterations(candidates, 0.02, seed=1)
    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn) == draw_iterations(candidates, 0.02, seed=1)
    assert set(drawn) <= set(candidates)
    assert drawn != draw_iterations(candidates, 0.02, seed=2)
    assert len(draw_iterations(candidates, 0.0001, seed=0)) == 5
    assert draw_iterations([3, 7], 0.5, seed=0) == [3, 7]


def test_the_confidence_interval_is_students():
    mean, half = mean_with_confidence([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert half == pytest.approx(3.182446 * 1.290994 / 2, rel=1e-5)  # t(0.975, 3) · s / √4, from a table
    assert np.isnan(mean_with_confidence([1.0])[1])


@pytest.mark.parametrize("rule", ["simpson", "trapezoid", "first-order"])
def test_the_audit_tells_the_true_error_of_the_parts(tmp_path, problem, rule):
    """Against the brute-force integral: 400 midpoint nodes of float64 gradients by autograd."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=20, learning_rate=0.5, device="cpu"))
    summary = lca.allocate(
        path, problem(), lca.AllocateConfig(rule=rule, tolerance=10, total_tolerance=1e9, audit=0.5, device="cpu")
    )
    assert len(summary.audit.iterations) == 10
    weights, stored = torch.from_numpy(lca.open(path).weights[:]).double(), lca.open(path).allocation("train").lca
    model, (x, y) = problem().model.double(), problem().train
    measured = []
    for t, told in zip(summary.audit.iterations, summary.audit.part_error, strict=True):
        theta0, theta1 = weights[:, t], weights[:, t + 1]
        mean = 0
        for s in (np.arange(400) + 0.5) / 400:
            torch.nn.utils.vector_to_parameters(torch.lerp(theta0, theta1, float(s)), model.parameters())
            loss = nn.functional.cross_entropy(model(x.double()), y)
            mean = mean + torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))]) / 400
        exact = ((theta1 - theta0) * mean).numpy()
        error = np.abs(stored[:, t] - exact).sum() / np.abs(exact).sum()
        measured.append(error)
        # The reference of the coarser rules is Simpson with 4 subintervals, that of Simpson itself has 8.
        assert told == pytest.approx(error, rel=0.25, abs=2e-4)
    assert max(measured) > {"simpson": 1e-4, "trapezoid": 1e-2, "first-order": 0.1}[rule]


def test_no_audit_when_not_asked_for(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(audit=0, device="cpu"))
    assert summary.audit is None


def test_an_audit_leaves_out_what_is_not_finite(tmp_path, problem):
    model = problem().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(8):
            with torch.no_grad():
                model[0].weight += 0.01 if t < 6 else float("nan")
            recorder.record()
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(audit=1, device="cpu"))
    assert summary.audit.iterations == [0, 1, 2, 3, 4, 5]
