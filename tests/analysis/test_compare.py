"""Comparison of two groups of runs, checked against scipy."""

import numpy as np
import pytest
from handmade import add_allocation, make_run, random_lca
from scipy import stats

from lca.analysis import Result, compare
from lca.errors import UsageError


def test_compare_equals_scipy(tmp_path):
    runs = []
    for i in range(5):
        loss = np.linspace(2, i / 10, 11)
        runs.append(make_run(tmp_path / f"{i}.zarr", random_lca(i, shift=-i), loss=loss))
        add_allocation(runs[-1], "val", random_lca(i), loss=loss + 1, attributes={"split": "val"})
    a, b = runs[:2], runs[2:]
    result = compare(a, b)
    assert result.rows == ["0", "1", "sum", "final loss, train", "final loss, val"]
    totals = np.array([random_lca(i, shift=-i)[:3].sum() for i in range(5)])
    np.testing.assert_allclose(result.first[:, 0], totals[:2], rtol=1e-5)
    np.testing.assert_allclose(result.difference[0], totals[2:].mean() - totals[:2].mean(), rtol=1e-5)
    np.testing.assert_allclose(result.p[0], stats.ttest_ind(totals[:2], totals[2:], equal_var=False).pvalue, rtol=1e-4)
    np.testing.assert_allclose(result.difference[-2:], [0.3 - 0.05] * 2)
    text = str(result)
    assert "A, n = 2 (nats)" in text
    assert "B, n = 3 (nats)" in text
    assert "No p-values: the test needs at least two runs" in str(compare(a[:1], b))


def test_only_losses_common_to_all_runs_are_compared(tmp_path):
    runs = [make_run(tmp_path / f"{i}.zarr", random_lca(i)) for i in range(2)]
    add_allocation(runs[0], "val", random_lca(0))
    for run in runs:
        add_allocation(run, "test", random_lca(0), attributes={"split": "test", "examples": 5})
        add_allocation(run, "part", random_lca(0), attributes={"examples": 5})
    assert compare(runs[:1], runs[1:]).rows == ["0", "1", "sum", "final loss, train"]


def test_group_is_a_path_a_run_or_a_sequence(tmp_path):
    runs = [make_run(tmp_path / f"{i}.zarr", random_lca(i)) for i in range(3)]
    expected = compare([runs[0]], runs[1:])
    assert isinstance(expected, Result)
    assert repr(expected) == str(expected.to_answer())
    assert repr(compare(str(runs[0].path), [str(run.path) for run in runs[1:]])) == repr(expected)
    assert repr(compare(runs[0], runs[1:])) == repr(expected)
    for first, second in ((3, runs), (runs, None), (runs, [])):
        with pytest.raises(UsageError, match="runs: expected"):
            compare(first, second)
