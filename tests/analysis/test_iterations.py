"""Selection of iterations, and the reasons for excluding others."""

import numpy as np
from handmade import make_run

from lca.analysis.iterations import Iterations, choose_iterations, describe_exclusions


def test_exclusions_are_counted_by_reason(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 6)), status=[0, 1, 2, 3, 3, 1])
    found = choose_iterations(run.allocation("train"))
    assert found.mask.tolist() == [False, True, False, False, False, True]
    assert found.exclusions == {"not allocated": 1, "not converged": 1, "not finite": 2}
    assert found.n == 2
    assert describe_exclusions([found, found]) == "excluded: 2 not allocated, 2 not converged, 4 not finite"
    more = choose_iterations(run.allocation("train"), unconverged=True)
    assert more.mask.tolist() == [False, True, True, False, False, True]
    assert more.exclusions == {"not allocated": 1, "not finite": 2}


def test_intersection_excludes_what_either_excludes():
    a, b = Iterations(np.array([3, 1, 1, 2, 1, 0])), Iterations(np.array([1, 3, 1, 3, 1, 1]))
    assert (a & b).mask.tolist() == [False, False, True, False, True, False]
    assert (a & b).exclusions == {"not allocated": 1, "not converged": 1, "not finite": 2}
    assert (Iterations(np.array([2, 3]), unconverged=True) & Iterations(np.array([2, 1]), unconverged=True)).n == 1
