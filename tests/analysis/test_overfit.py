"""Gaps between LCA on two splits."""

import numpy as np
import pytest
from handmade import NAN, add_allocation, columns_of, make_run, random_lca
from scipy import stats

from lca.analysis import Overfit, overfit
from lca.errors import LCAError, UsageError


def test_gaps_equal_sums_over_hand_made_arrays(tmp_path):
    train, val = np.zeros((2, 7, 4))
    train[0] = [-4, -2, -1, -1]  # layer 0 overfits from the third iteration on
    val[0] = [-4, -2, 1, 2]
    train[3] = [-1, 0, 0, 0]
    val[3] = [-1, -1, 0, 0]
    train[6], val[6] = [-1, -1, -1, NAN], [0, 0, 0, -1]
    run = make_run(tmp_path / "run.zarr", train, status=[1, 1, 1, 3])
    add_allocation(run, "val", val, attributes={"split": "val"})
    result = overfit(run)
    assert result.layers == ["0", "1"]
    assert result.iterations.mask.tolist() == [True, True, True, False]
    np.testing.assert_allclose(result.train, [[-4, -2], [-2, -1], [-1, -1], [NAN, NAN]])
    np.testing.assert_allclose(result.held_out, [[-4, -1], [-2, -1], [1, 0], [NAN, NAN]])
    np.testing.assert_allclose(result.cumulative_gap, [[0, 1], [0, 1], [2, 2], [2, 2]])
    assert result.best_iterate.tolist() == [2, 2]
    assert result.neurons == ["0[0]", "1[0]", "1[1]"]
    np.testing.assert_allclose(result.neuron_train, [-7, -1, -3])
    np.testing.assert_allclose(result.neuron_held_out, [-5, -2, 0])
    answer = Overfit.tabulate([result])
    columns = columns_of(answer)
    assert [columns["gap (nats)"][row]["mean"] for row in ("0", "1", "sum")] == [2, 2, 4]
    assert columns["gap %"]["1"]["mean"] == pytest.approx(50)
    assert list(answer.tables[-1].rows) == ["1[1]", "0[0]", "1[0]"]
    assert "excluded: 1 not finite" in str(answer)


def test_several_runs_are_tested_in_pairs(tmp_path):
    runs = [make_run(tmp_path / f"{i}.zarr", random_lca(i, shift=-1)) for i in range(4)]
    for i, run in enumerate(runs):
        add_allocation(run, "val", random_lca(10 + i), attributes={"split": "val"}, keep=False)
    results = [overfit(run) for run in runs]
    assert results[0].neurons is None
    columns = columns_of(Overfit.tabulate(results))
    for row, rows in (("0", slice(0, 3)), ("1", slice(3, 7))):
        train, val = ([random_lca(begin + i, shift=s)[rows].sum() for i in range(4)] for begin, s in ((0, -1), (10, 0)))
        assert columns["p (paired t-test)"][row]["mean"] == pytest.approx(stats.ttest_rel(train, val).pvalue, rel=1e-4)


def test_overfit_requires_two_allocations(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0))
    with pytest.raises(LCAError, match=r"Create it with lca.allocate\('.*run.zarr', problem, split='val'\)"):
        overfit(run)
    with pytest.raises(UsageError, match="compared with itself"):
        overfit(run, against="train")
    add_allocation(run, "val", random_lca(1), status=[0] * 9 + [1])
    add_allocation(run, "other", random_lca(1), status=[1] + [0] * 9)
    with pytest.raises(LCAError, match="has no iteration that is usable in both 'val' and 'other'"):
        overfit(run, name="val", against="other")


def test_runs_with_different_splits_are_rejected(tmp_path):
    runs = [make_run(tmp_path / f"{i}.zarr", random_lca(i)) for i in range(2)]
    for run, split in zip(runs, ("val", "test"), strict=True):
        add_allocation(run, split, random_lca(3), attributes={"split": split})
    with pytest.raises(LCAError, match="the runs were not allocated on the same two splits"):
        Overfit.tabulate([overfit(runs[0]), overfit(runs[1], against="test")])
