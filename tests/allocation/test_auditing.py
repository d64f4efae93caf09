import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lca
from lca.allocation.config import AllocateConfig
from lca.allocation.full_gradient import FullGradient
from lca.errors import Interrupted

CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


def test_signal_stops_the_audit(run, problem, monkeypatch):
    config = AllocateConfig(**{**CONFIG, "audit": 0.1})
    passes, original = [], FullGradient._evaluate

    def interrupt(self, *arguments):
        passes.append(1)
        if len(passes) == 6 + 201 + 2 * 9:  # the preflight, the iterations and two audited ones
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", interrupt)
    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        lca.allocate(run, problem(), config)
    assert len(passes) == 6 + 201 + 2 * 9
    allocation = lca.open(run).allocation("train")
    assert (allocation.n_allocated, allocation.complete) == (100, False)
    assert len(lca.allocate(run, problem(), config).audit.iterations) == 10 + 3  # drawn and chosen


@pytest.mark.parametrize("rule", ["simpson", "trapezoid", "first-order"])
def test_audit_measures_the_true_error_of_the_parts(tmp_path, problem, rule):
    """The truth is a brute-force integral: the midpoint rule with 400 float64 autograd gradients."""
    path = tmp_path / "run.zarr"
    lca.train(problem(), path, lca.TrainConfig(batch_size=20, iterations=20, learning_rate=0.5, device="cpu"))
    summary = lca.allocate(
        path, problem(), lca.AllocateConfig(rule=rule, tolerance=10, total_tolerance=1e9, audit=0.5, device="cpu")
    )
    assert len(summary.audit.iterations) == 10 + 3  # drawn and chosen
    weights, stored = torch.from_numpy(lca.open(path).weights[:]).double(), lca.open(path).allocation("train").lca
    model, (x, y) = problem().model.double(), problem().train
    measured = []
    for t, audited in zip(summary.audit.iterations, summary.audit.part_error, strict=True):
        theta0, theta1 = weights[:, t], weights[:, t + 1]
        mean = 0
        for s in (np.arange(400) + 0.5) / 400:
            torch.nn.utils.vector_to_parameters(torch.lerp(theta0, theta1, float(s)), model.parameters())
            loss = nn.functional.cross_entropy(model(x.double()), y)
            mean = mean + torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))]) / 400
        exact = ((theta1 - theta0) * mean).numpy()
        error = np.abs(stored[:, t] - exact).sum() / np.abs(exact).sum()
        measured.append(error)
        # The audit compares Simpson with 8 subintervals, and the coarser rules with only 4.
        assert audited == pytest.approx(error, rel=0.25, abs=2e-4)
    assert max(measured) > {"simpson": 1e-4, "trapezoid": 1e-2, "first-order": 0.1}[rule]


def test_audit_computes_no_backward_pass_by_class(tmp_path, problem, monkeypatch):
    """The audit needs 4n + 1 gradients of the whole loss per audited iteration, and none of a class.

    With BatchNorm, a batch contains several classes, and each has a backward pass of its own.
    """
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    by_class = replace(problem(model=model), groups=lambda batch: batch[1])
    lca.train(by_class, tmp_path / "run.zarr", batch_size=20, iterations=12, device="cpu")
    passes, original = [], FullGradient._backward

    def count(self, losses, **options):
        passes.append(self.by_class is not None)
        return original(self, losses, **options)

    monkeypatch.setattr(FullGradient, "_backward", count)
    summary = lca.allocate(tmp_path / "run.zarr", by_class, by_class=True, batch_size=60, device="cpu")
    assert passes.count(False) == 9 * len(summary.audit.iterations)


def test_audit_of_zero_turns_the_audit_off(run, problem):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(audit=0, device="cpu"))
    assert summary.audit is None


def test_audit_skips_iterations_that_are_not_finite(tmp_path, problem):
    model = problem().model
    with lca.Recorder(tmp_path / "run.zarr", model) as recorder:
        for t in range(8):
            with torch.no_grad():
                model[0].weight += 0.01 if t < 6 else float("nan")
            recorder.record()
    summary = lca.allocate(tmp_path / "run.zarr", problem(), lca.AllocateConfig(audit=1, device="cpu"))
    assert summary.audit.iterations == [0, 1, 2, 3, 4, 5]


def test_audit_measures_the_error_of_a_lower_precision(run, problem):
    """The reference is computed in float32, so the audit includes the error of bfloat16."""
    errors = {}
    for precision in ("fp32", "bf16"):
        config = lca.AllocateConfig(name=precision, precision=precision, batch_size=20, device="cpu")
        summary = lca.allocate(run, problem(), config)
        errors[precision] = np.mean(summary.audit.part_error)
        assert lca.open(run).allocation(precision).attributes["precision"] == precision
    assert errors["bf16"] > 10 * errors["fp32"]
    exact, rough = (lca.open(run).allocation(name) for name in ("fp32", "bf16"))
    np.testing.assert_allclose(rough.loss[:], exact.loss[:], rtol=1e-6)
