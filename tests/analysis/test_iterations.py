"""Which iterations count, and why the others do not."""

import numpy as np
from handmade import make_run

from lca.analysis.iterations import Iterations, choose_iterations, describe_left_out


def test_what_does_not_count_is_counted_by_reason(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 6)), status=[0, 1, 2, 3, 3, 1])
    found = choose_iterations(run.allocation("train"))
    assert found.counted.tolist() == [False, True, False, False, False, True]
    assert found.left_out == {"not allocated": 1, "not converged": 1, "not finite": 2}
    assert found.n == 2
    assert describe_left_out([found, found]) == "left out: 2 not allocated, 2 not converged, 4 not finite"
    more = choose_iterations(run.allocation("train"), unconverged=True)
    assert more.counted.tolist() == [False, True, True, False, False, True]
    assert more.left_out == {"not allocated": 1, "not finite": 2}


def test_what_counts_in_both_counts_what_either_lacks():
    a, b = Iterations(np.array([3, 1, 1, 2, 1, 0])), Iterations(np.array([1, 3, 1, 3, 1, 1]))
    assert (a & b).counted.tolist() == [False, False, True, False, True, False]
    assert (a & b).left_out == {"not allocated": 1, "not converged": 1, "not finite": 2}
    assert (Iterations(np.array([2, 3]), unconverged=True) & Iterations(np.array([2, 1]), unconverged=True)).n == 1
