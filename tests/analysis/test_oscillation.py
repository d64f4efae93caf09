"""Changes of direction, counted by hand."""

import numpy as np
import pytest
from handmade import make_run

from lca.analysis import Oscillation, oscillation
from lca.errors import LCAError

T = 6
WEIGHTS = [
    # motion: + + − − + −: three turns
    [0, 1, 2, 1, 0, 1, 0],
    # + 0 − 0 + +: a rest between two directions is no turn, for the product is 0
    [0, 1, 1, 0, 0, 1, 2],
    # steady
    [0, 1, 2, 3, 4, 5, 6],
    # at every step: five turns
    [0, 1, 0, 1, 0, 1, 0],
    # never moves
    [1, 1, 1, 1, 1, 1, 1],
    # − + + + + +: one turn
    [0, -1, 0, 1, 2, 3, 4],
    [0, 1, 2, 3, 4, 5, 4],
]
LCA = [
    [-1, 1, -1, 1, -1, 1],  # five
    [-1, 0, 1, 1, 1, 1],  # none: 0 between
    [1, 1, 1, -1, -1, -1],  # one
    [0, 0, 0, 0, 0, 0],
    [-1, -1, -1, -1, -1, -1],
    [1e-30, -1e-30, 1e-30, 0, 0, 0],  # two, though the products are 0 in float32
    [2, -2, -2, -2, -2, 2],  # two
]
POSITIVE = np.array(
    [
        [1, 0, 1, 0, 1, 0, 1],  # six crossings
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1],  # one
        [0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 1],  # two
        [0, 1, 1, 1, 1, 1, 1],  # one
        [1, 1, 1, 1, 1, 1, 0],  # one
    ],
    bool,
)


def test_turns_and_crossings(tmp_path):
    result = oscillation(make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, gradient_positive=POSITIVE))
    assert result.turns.counts.tolist() == [3, 0, 5, 2]  # by tensor, of 2, 1, 2, 2 parameters
    assert result.of_lca.counts.tolist() == [5, 1, 0, 4]
    assert result.crossings.counts.tolist() == [6, 1, 2, 2]
    # T over the mean count: all seven parameters, then the three of layer 0 and the four of layer 1
    np.testing.assert_allclose(result.iterations_per(result.turns), [6 / (10 / 7), 6 / (3 / 3), 6 / (7 / 4)])
    np.testing.assert_allclose(result.iterations_per(result.of_lca), [6 / (10 / 7), 6 / (6 / 3), 6 / (4 / 4)])
    np.testing.assert_allclose(result.iterations_per(result.crossings), [6 / (11 / 7), 6 / (7 / 3), 6 / (4 / 4)])
    columns = Oscillation.tabulate([result]).tables[0].columns
    np.testing.assert_allclose(columns["weight turns"].values, [[4.2, 6, 24 / 7]])
    np.testing.assert_allclose(columns["gradient crosses 0"].values, [[42 / 11, 18 / 7, 6]])
    np.testing.assert_allclose(columns["LCA turns"].values, [[4.2, 3, 6]])


def test_an_iteration_that_does_not_count_has_no_turns_beside_it(tmp_path):
    status = [1, 1, 0, 1, 3, 1]
    loss = [1, 1, 1, 1, np.nan, 1, 1]
    result = oscillation(
        make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, gradient_positive=POSITIVE, status=status, loss=loss)
    )
    # only iterations 0 and 1 are neighbours
    assert result.of_lca.counts.tolist() == [1, 0, 0, 2]
    assert result.of_lca.n == 2
    # motions are known but for iteration 4, whose end is not finite: + + − −, then nothing beside −
    assert result.turns.counts.tolist() == [1, 0, 3, 1]
    assert result.turns.n == 5
    # iterate 4 has no gradient, which leaves the pairs 01, 12, 23 and 56
    assert result.crossings.counts.tolist() == [4, 1, 2, 2]
    assert result.crossings.n == 4


def test_with_gaps_everywhere_there_is_nothing_to_count(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, status=[1, 0, 1, 0, 1, 0])
    result = oscillation(run, crossings=False)
    assert np.isnan(result.iterations_per(result.of_lca)).all()
    assert result.crossings is None
    assert list(Oscillation.tabulate([result]).tables[0].columns) == ["weight turns", "LCA turns"]


def test_what_never_turns_takes_for_ever(tmp_path):
    result = oscillation(make_run(tmp_path / "run.zarr", -np.ones((7, 6))), crossings=False)
    assert np.isinf(result.iterations_per(result.turns)).all()
    assert np.isinf(result.iterations_per(result.of_lca)).all()


def test_without_the_signs_the_call_that_keeps_them_is_named(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA)
    with pytest.raises(
        LCAError, match=r"no gradient_sign. Replace it with .*run.zarr', problem, gradient_signs=True, overwrite=True"
    ):
        oscillation(run)


def test_the_table_has_what_all_runs_have(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, gradient_positive=POSITIVE)
    results = [oscillation(run), oscillation(run, crossings=False)]
    assert list(Oscillation.tabulate(results).tables[0].columns) == ["weight turns", "LCA turns"]
