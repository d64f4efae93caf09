import numpy as np
import pytest

from lca.store.audit import compare_parts, draw_iterations, mean_with_confidence


def test_audit_figures_of_an_iteration():
    coarse = np.array([1.0, -2.0, 0.5, 0.0, -4.0])
    half_way = np.array([1.0, -2.0, -0.2, 0.0, -3.0])
    fine = np.array([2.0, -2.0, -0.5, 0.0, -3.5])
    figures = compare_parts(coarse, half_way, fine)
    assert figures == {
        "part_error": pytest.approx((1 + 1 + 0.5) / 8),
        "half_way": pytest.approx((1 + 0.3 + 0.5) / 8),
        "sign_change": 1 / 4,
        "helping_shift": pytest.approx(100 * 2 / 4 - 100 * 3 / 4),
    }


def test_an_iteration_that_moves_no_parameter_has_no_error():
    zero = np.zeros(3)
    assert set(compare_parts(zero, zero, zero).values()) == {0.0}


def test_a_fraction_of_the_iterations_is_audited_but_at_least_five():
    candidates = list(range(10, 1010))
    drawn = draw_iterations(candidates, 0.02, seed=1)
    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn) == draw_iterations(candidates, 0.02, seed=1)
    assert set(drawn) <= set(candidates)
    assert drawn != draw_iterations(candidates, 0.02, seed=2)
    assert len(draw_iterations(candidates, 0.0001, seed=0)) == 5
    assert draw_iterations([3, 7], 0.5, seed=0) == [3, 7]


def test_the_confidence_interval_uses_students_t():
    mean, half = mean_with_confidence([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert half == pytest.approx(3.182446 * 1.290994 / 2, rel=1e-5)  # t(0.975, 3) · s / √4, from a table
    assert np.isnan(mean_with_confidence([1.0])[1])
