"""Sign changes, counted by hand."""

import numpy as np
import pytest
from handmade import make_run

from lca.analysis import Oscillation, oscillation
from lca.errors import LCAError

T = 6
WEIGHTS = [
    # updates + + − − + −: three turns
    [0, 1, 2, 1, 0, 1, 0],
    # + 0 − 0 + +: no turn, because an update of 0 separates the signs
    [0, 1, 1, 0, 0, 1, 2],
    # constant update: no turn
    [0, 1, 2, 3, 4, 5, 6],
    # every update reverses: five turns
    [0, 1, 0, 1, 0, 1, 0],
    # never moves
    [1, 1, 1, 1, 1, 1, 1],
    # − + + + + +: one turn
    [0, -1, 0, 1, 2, 3, 4],
    [0, 1, 2, 3, 4, 5, 4],
]
LCA = [
    [-1, 1, -1, 1, -1, 1],  # five
    [-1, 0, 1, 1, 1, 1],  # none, because 0 separates the signs
    [1, 1, 1, -1, -1, -1],  # one
    [0, 0, 0, 0, 0, 0],
    [-1, -1, -1, -1, -1, -1],
    [1e-30, -1e-30, 1e-30, 0, 0, 0],  # two, although the products underflow to 0 in float32
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


def test_sign_changes_equal_counts_by_hand(tmp_path):
    result = oscillation(make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, gradient_positive=POSITIVE))
    assert result.turns.counts.tolist() == [3, 0, 5, 2]  # by tensor; the tensors have 2, 1, 2 and 2 parameters
    assert result.of_lca.counts.tolist() == [5, 1, 0, 4]
    assert result.crossings.counts.tolist() == [6, 1, 0, 2]  # the fifth parameter never moves
    assert result.moving.tolist() == [2, 1, 1, 2]
    # T divided by the mean count of the six parameters that move, of the three in layer 0 and of the three in layer 1
    np.testing.assert_allclose(result.iterations_per(result.turns), [6 / (10 / 6), 6 / (3 / 3), 6 / (7 / 3)])
    np.testing.assert_allclose(result.iterations_per(result.of_lca), [6 / (10 / 6), 6 / (6 / 3), 6 / (4 / 3)])
    np.testing.assert_allclose(result.iterations_per(result.crossings), [6 / (9 / 6), 6 / (7 / 3), 6 / (2 / 3)])
    answer = Oscillation.tabulate([result])
    columns = answer.tables[0].columns
    np.testing.assert_allclose(columns["moving parameters"].values, [[6, 3, 3]])
    np.testing.assert_allclose(columns["weight update"].values, [[3.6, 6, 18 / 7]])
    np.testing.assert_allclose(columns["gradient"].values, [[4, 18 / 7, 9]])
    np.testing.assert_allclose(columns["LCA"].values, [[3.6, 3, 4.5]])
    assert answer.notes == ["moving parameters: 6 of 7. The others never move and are not counted."]


def test_excluded_iterations_interrupt_the_count(tmp_path):
    status = [1, 1, 0, 1, 3, 1]
    loss = [1, 1, 1, 1, np.nan, 1, 1]
    result = oscillation(
        make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, gradient_positive=POSITIVE, status=status, loss=loss)
    )
    # only iterations 0 and 1 are neighbors
    assert result.of_lca.counts.tolist() == [1, 0, 0, 2]
    assert result.of_lca.n == 2
    # Updates are known except in iteration 4, whose end is not finite: + + − −, then a single − without a neighbor.
    assert result.turns.counts.tolist() == [1, 0, 3, 1]
    assert result.turns.n == 5
    # Iterate 4 has no gradient, so the pairs (0, 1), (1, 2), (2, 3) and (5, 6) remain.
    assert result.crossings.counts.tolist() == [4, 1, 0, 2]
    assert result.crossings.n == 4


def test_isolated_iterations_have_no_sign_changes(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, status=[1, 0, 1, 0, 1, 0])
    result = oscillation(run, crossings=False)
    assert np.isnan(result.iterations_per(result.of_lca)).all()
    assert result.crossings is None
    columns = Oscillation.tabulate([result]).tables[0].columns
    assert list(columns) == ["moving parameters", "weight update", "LCA"]


def test_iterations_per_change_are_infinite_without_sign_changes(tmp_path):
    weights = np.tile(np.arange(7), (7, 1))
    result = oscillation(make_run(tmp_path / "run.zarr", -np.ones((7, 6)), weights=weights), crossings=False)
    assert np.isinf(result.iterations_per(result.turns)).all()
    assert np.isinf(result.iterations_per(result.of_lca)).all()


def test_missing_gradient_signs_are_reported_with_the_call_that_adds_them(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA)
    with pytest.raises(
        LCAError, match=r"no gradient_sign. Replace it with .*run.zarr', problem, gradient_signs=True, overwrite=True"
    ):
        oscillation(run)


def test_table_shows_quantities_common_to_all_runs(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, gradient_positive=POSITIVE)
    results = [oscillation(run), oscillation(run, crossings=False)]
    columns = Oscillation.tabulate(results).tables[0].columns
    assert list(columns) == ["moving parameters", "weight update", "LCA"]


def test_frozen_layer_is_not_counted(tmp_path):
    """Layer 0 does not move, but its gradient changes sign in every iteration."""
    weights, positive = np.array(WEIGHTS), POSITIVE.copy()
    weights[:3] = 1
    positive[:3, ::2] ^= True
    lca = np.array(LCA)
    lca[:3] = 0
    frozen = make_run(tmp_path / "run.zarr", lca, weights=weights, gradient_positive=positive)
    result, expected = (
        oscillation(frozen),
        oscillation(make_run(tmp_path / "all.zarr", LCA, weights=WEIGHTS), crossings=False),
    )
    assert result.moving.tolist() == [0, 0, 1, 2]
    assert result.crossings.counts.tolist() == [0, 0, 0, 2]
    for changes in (result.turns, result.of_lca, result.crossings):
        of_all, first, second = result.iterations_per(changes)
        assert np.isnan(first)
        assert of_all == second
    assert result.iterations_per(result.turns)[2] == expected.iterations_per(expected.turns)[2]


def test_moving_parameters_are_found_in_strips_of_any_height(tmp_path, monkeypatch):
    monkeypatch.setattr("lca.analysis.tiles.STRIP_ROWS", 3)
    run = make_run(tmp_path / "run.zarr", LCA, weights=WEIGHTS, gradient_positive=POSITIVE)
    result = oscillation(run)
    assert result.moving.tolist() == [2, 1, 1, 2]
    assert result.crossings.counts.tolist() == [6, 1, 0, 2]
