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


def make_group(folder, seeds, shift):
    """Make a run for each seed, whose LCA consists of a part that depends only on the seed and of small noise."""
    runs = []
    for seed in seeds:
        lca = 10 * random_lca(seed) + random_lca(100 + seed + shift) + shift
        runs.append(make_run(folder / f"{shift}-{seed}.zarr", lca, training={"seed": seed}))
    return runs, np.array([run.allocation("train").lca[:3].sum(dtype=np.float64) for run in runs])


def test_groups_with_the_same_seeds_are_compared_in_pairs(tmp_path):
    a, first = make_group(tmp_path, [0, 1, 2, 3], 0)
    b, second = make_group(tmp_path, [2, 0, 3, 1], 1)
    result = compare(a, b)
    assert result.seeds == [0, 1, 2, 3]
    expected = stats.ttest_rel(first, second[[1, 3, 0, 2]]).pvalue
    assert result.p[0] == pytest.approx(expected, rel=1e-4)
    assert result.p[0] < stats.ttest_ind(first, second, equal_var=False).pvalue / 10
    assert list(result.to_answer().tables[0].columns)[3:] == ["p (paired by seed)", "p (Holm)"]
    assert "paired t-test of the differences between runs with the same seed (0, 1, 2, 3)." in str(result)


@pytest.mark.parametrize("seeds", [([0, 1, 2], [1, 2, 3]), ([0, 1, 1], [0, 1, 1]), ([0, 1], [0, 1, 2]), ([4], [4])])
def test_other_groups_are_compared_by_welchs_test(tmp_path, seeds):
    groups = [
        [
            make_run(tmp_path / f"{g}-{i}.zarr", random_lca(3 * g + i), training={"seed": seed})
            for i, seed in enumerate(of_group)
        ]
        for g, of_group in enumerate(seeds)
    ]
    result = compare(*groups)
    assert result.seeds is None
    assert "p (Welch's t-test)" in result.to_answer().tables[0].columns
    if len(seeds[0]) > 1:
        expected = stats.ttest_ind(result.first[:, 0], result.second[:, 0], equal_var=False).pvalue
        assert result.p[0] == pytest.approx(expected)
