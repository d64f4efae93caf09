"""Selection of iterations, and the notes about excluded and unconverged ones."""

import numpy as np
import pytest
from handmade import NAN, make_run

from lca.analysis.iterations import choose_iterations, describe_exclusions, describe_totals, describe_unconverged
from lca.errors import LCAError


def choose(path, lca, **options):
    return choose_iterations(make_run(path, lca, **options).allocation("train"))


def test_exclusions_are_counted_by_reason(tmp_path):
    found = choose(tmp_path / "run.zarr", np.ones((7, 6)), status=[0, 1, 2, 3, 3, 1])
    assert found.mask.tolist() == [False, True, True, False, False, True]
    assert found.exclusions == {"not allocated": 1, "not finite": 2}
    assert found.n == 3
    assert describe_exclusions([found, found]) == "excluded: 2 not allocated, 4 not finite"


def test_intersection_keeps_iterations_that_both_use(tmp_path):
    a = choose(tmp_path / "a.zarr", np.ones((7, 6)), status=[3, 1, 1, 2, 1, 0])
    b = choose(tmp_path / "b.zarr", np.ones((7, 6)), status=[1, 3, 1, 3, 1, 1])
    assert (a & b).mask.tolist() == [False, False, True, False, True, False]
    assert (a & b).exclusions == {"not allocated": 1, "not finite": 3}


def test_allocation_without_a_finite_iteration_is_an_error(tmp_path):
    with pytest.raises(LCAError, match="no usable iteration: 2 not finite"):
        choose(tmp_path / "run.zarr", np.ones((7, 2)), status=[3, 3])


def test_note_states_number_and_residual_of_unconverged_iterations(tmp_path):
    residual = [0.0, -0.25, 0.5]
    found = choose(tmp_path / "run.zarr", np.ones((7, 3)), status=[1, 2, 2], residual=residual)
    assert found.mask.all()
    assert describe_unconverged([found]) == [
        "2 iterations did not converge. Their residuals, 0.750 nats in total, are part of every sum."
    ]
    assert describe_unconverged([choose(tmp_path / "all.zarr", np.ones((7, 3)))]) == []


def test_sum_of_parts_is_compared_with_the_loss_change(tmp_path):
    found = choose(tmp_path / "run.zarr", np.ones((7, 3)), loss=[30, 37, 44, 51])
    assert describe_totals([found]) == ["Σ A = 21.000 nats, L_T − L_0 = 21.000 nats."]


def test_sum_that_differs_from_the_loss_change_gives_a_warning(tmp_path):
    found = choose(tmp_path / "run.zarr", np.ones((7, 3)), loss=[30, 37, 44, 50], residual=[0, 0, 1])
    total, warning = describe_totals([found])
    assert total == "Σ A = 21.000 nats, L_T − L_0 = 20.000 nats."
    assert warning.startswith("WARNING: Σ A and the loss change differ by 1.00 nats (5 % of this change).")


def test_loss_change_of_a_diverged_run_covers_its_finite_iterations(tmp_path):
    found = choose(
        tmp_path / "run.zarr", np.ones((7, 3)), status=[1, 1, 3], loss=[30, 37, 44, NAN], allocated=[7, 7, NAN]
    )
    assert (found.sum_of_parts, found.change) == (14, 14)


def test_excluded_iteration_in_the_middle_gives_a_warning(tmp_path):
    """The loss changes by 21, but one of three iterations is not finite, so Σ A is 14."""
    found = choose(
        tmp_path / "run.zarr", np.ones((7, 3)), status=[1, 3, 1], loss=[30, 37, 44, 51], allocated=[7, NAN, 7]
    )
    assert (found.sum_of_parts, found.change) == (14, 21)
    assert describe_totals([found])[1].startswith("WARNING")
