import signal
from math import inf

import numpy as np
import pytest

import lca
from lca.allocation.full_gradient import FullGradient
from lca.allocation.prediction import LONGEST, N_SPREAD, WARM_UP, TrapezoidPredictor
from lca.errors import Interrupted


def make_predictor(part_tolerance=0.02, factor=0.05):
    predictor = TrapezoidPredictor(part_tolerance)
    for i in range(WARM_UP):
        share = 0.1 * (i + 1)
        predictor.observe(share, factor * share, 2)
    return predictor


def test_no_trapezoid_is_kept_before_the_factor_is_known():
    predictor = TrapezoidPredictor(0.02)
    for _ in range(WARM_UP):
        assert predictor.curvature_limit == -inf
        predictor.observe(0.4, 0.01, 2)
    assert predictor.curvature_limit > 0


def test_the_limit_is_where_the_predicted_error_reaches_the_tolerance():
    assert abs(make_predictor(0.02, factor=0.05).curvature_limit - 0.4) < 1e-12


def test_the_factor_is_learned_again_after_many_trapezoids():
    predictor = make_predictor()
    for _ in range(LONGEST):
        assert predictor.curvature_limit > 0
        predictor.observe(0.1, 0.1, 1)
    assert predictor.curvature_limit == -inf
    predictor.observe(0.1, 0.01, 2)
    assert predictor.curvature_limit > 0


def test_a_step_without_error_is_always_integrated_by_the_trapezoid():
    predictor = TrapezoidPredictor(0.02)
    for _ in range(WARM_UP):
        predictor.observe(0.4, 0.0, 2)
    assert predictor.curvature_limit == inf


def test_the_adaptive_rule_takes_fewer_gradients_and_keeps_its_tolerance(run, problem):
    options = {"batch_size": 20, "device": "cpu", "audit": 1.0}
    simpson = lca.allocate(run, problem(), name="simpson", **options)
    adaptive = lca.allocate(run, problem(), name="adaptive", rule="adaptive", **options)
    assert 1 < adaptive.gradients_per_iteration < simpson.gradients_per_iteration
    within = [error <= 0.02 for error in adaptive.audit.part_error]
    assert sum(within) >= 0.95 * len(within)
    allocation = lca.open(run).allocation("adaptive")
    refined = allocation.read("intervals") > 1
    assert (allocation.read("part_estimate")[refined] <= 0.02).all()


def test_the_adaptive_rule_does_not_depend_on_interruptions(run, problem, monkeypatch):
    """An interrupted block continues with what its iterations have taught the predictor."""
    options = {"batch_size": 20, "device": "cpu", "audit": 0, "rule": "adaptive"}
    lca.allocate(run, problem(), name="whole", **options)
    original, passes = FullGradient._evaluate, []

    def interrupt(self, *arguments):
        passes.append(1)
        if len(passes) in (30, 80):
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", interrupt)
    for _ in range(2):
        with pytest.raises(Interrupted):
            lca.allocate(run, problem(), name="parts", **options)
    lca.allocate(run, problem(), name="parts", **options)
    whole, parts = (lca.open(run).allocation(name) for name in ("whole", "parts"))
    assert (whole.read("intervals") == parts.read("intervals")).all()
    assert (whole.read("lca") == parts.read("lca")).all()


@pytest.mark.parametrize(("iterations", "longest"), [("::6", None), (None, 5)])
def test_short_blocks_learn_from_iterations_spread_over_the_run(tmp_path, problem, monkeypatch, iterations, longest):
    """With a step or a large model, a block has too few iterations to learn from."""
    if longest:
        monkeypatch.setattr("lca.store.run_writer.block_length", lambda *_: longest)
    run, options = tmp_path / "run.zarr", {"batch_size": 20, "device": "cpu", "iterations": iterations}
    lca.train(problem(), run, batch_size=20, iterations=300 if longest else 600, learning_rate=0.1, device="cpu")
    adaptive = lca.allocate(run, problem(), name="adaptive", rule="adaptive", audit=1.0, **options)
    allocation = lca.open(run).allocation("adaptive")
    assert len(allocation.attributes["factors"]) == N_SPREAD
    assert adaptive.gradients_per_iteration < 1.6
    within = [error <= 0.02 for error in adaptive.audit.part_error]
    assert sum(within) >= 0.95 * len(within)
    original, passes = FullGradient._evaluate, []

    def interrupt(self, *arguments):
        passes.append(1)
        if len(passes) == 100:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(FullGradient, "_evaluate", interrupt)
    with pytest.raises(Interrupted):
        lca.allocate(run, problem(), name="parts", rule="adaptive", audit=0, **options)
    lca.allocate(run, problem(), name="parts", rule="adaptive", audit=0, **options)
    parts = lca.open(run).allocation("parts")
    assert np.array_equal(allocation.read("intervals"), parts.read("intervals"))
    assert np.array_equal(allocation.read("lca"), parts.read("lca"), equal_nan=True)
