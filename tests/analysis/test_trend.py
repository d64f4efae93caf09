"""Linear fits of LCA to a training option, compared with scipy."""

import numpy as np
import pytest
from handmade import columns_of, make_run, random_lca
from scipy import stats

from lca.analysis import compare, trend
from lca.analysis._trend import read_option
from lca.errors import LCAError, UsageError


def make_trained(path, values_seed, **training):
    return make_run(
        path, random_lca(values_seed), training={"optimizer": "sgd", "momentum": 0.9, "nesterov": False, **training}
    )


def test_fits_equal_scipy(tmp_path):
    momenta = (0.0, 0.5, 0.5, 0.75, 0.9)
    runs = [make_trained(tmp_path / f"{i}.zarr", i, layers=[f"1:momentum={m}"]) for i, m in enumerate(momenta)]
    result = trend(runs, "last:momentum", delay=True)
    np.testing.assert_allclose(result.x, [0, 1, 1, 3, 9])
    assert result.layers == ["0", "1"]
    for i, rows in enumerate((slice(0, 3), slice(3, 7))):
        y = [random_lca(seed)[rows].sum(dtype=np.float64) for seed in range(5)]
        line = stats.linregress([0, 1, 1, 3, 9], y)
        expected = line.slope, line.intercept, line.rvalue**2, line.pvalue
        found = result.slope[i], result.intercept[i], result.r_squared[i], result.p[i]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    answer = result.to_answer()
    columns = columns_of(answer, "total LCA (nats) by delay of last:momentum, with a linear fit")
    assert list(columns) == ["0", "1", "3", "9", "slope (nats per unit)", "R²", "p (slope = 0)", "p (Holm)"]
    assert len(columns["1"]["0"]["values"]) == 2
    assert trend(runs, "1:momentum", layer="last").layers == ["1"]
    np.testing.assert_allclose(trend(runs, "1:momentum").x, momenta)


def test_exact_line_is_recovered(tmp_path):
    runs = [
        make_run(tmp_path / f"{i}.zarr", np.outer([1, 0, 0, 0, 0, 0, 0], [2.0 * i, 1]), training={"learning_rate": i})
        for i in (1, 2, 4)
    ]
    result = trend(runs, "learning_rate")
    np.testing.assert_allclose((result.slope[0], result.intercept[0], result.r_squared[0]), (2, 1, 1))
    assert np.isnan([result.slope[1], result.r_squared[1]]).all()  # the LCA of the other layer is constant


def test_two_runs_give_a_line_without_p_value(tmp_path):
    result = trend([make_trained(tmp_path / f"{i}.zarr", i, l2=i) for i in range(2)], "l2")
    assert np.isfinite(result.slope).all()
    assert np.isnan([result.r_squared, result.p]).all()


def test_option_of_a_layer_falls_back_to_the_global_value(tmp_path):
    run = make_trained(tmp_path / "run.zarr", 0, layers=["*:lr=0.1", "1:learning_rate=0.2"], learning_rate=0.5)
    assert read_option(run, "learning_rate") == 0.5
    assert (read_option(run, "0:lr"), read_option(run, "last:lr"), read_option(run, "last:momentum")) == (0.1, 0.2, 0.9)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optimizer", "optimizer of .*: expected a number, found 'sgd'. Pass one of momentum"),
        ("nesterov", "nesterov of .* found False"),
        ("rate", "rate of .* found no such option"),
        ("fc:momentum", "no layer matches 'fc'"),
        ("momentum", "momentum: expected at least two different values, found 0.9 in every run"),
    ],
)
def test_option_that_cannot_be_fitted_is_rejected(tmp_path, option, message):
    runs = [make_trained(tmp_path / f"{i}.zarr", i) for i in range(2)]
    with pytest.raises(UsageError, match=message):
        trend(runs, option)


def test_delay_requires_a_momentum(tmp_path):
    runs = [make_trained(tmp_path / f"{i}.zarr", i, seed=i) for i in range(2)]
    with pytest.raises(UsageError, match="seed: expected momentum values from 0 to below 1, .* found 0, 1"):
        trend(runs, "seed", delay=True)


def test_custom_loop_has_no_training_options(tmp_path):
    with pytest.raises(LCAError, match="recorded from a custom training loop"):
        trend([make_run(tmp_path / "run.zarr", random_lca(0))] * 2, "momentum")


def test_trend_accepts_paths_and_prints_its_table(tmp_path):
    runs = [make_trained(tmp_path / f"{i}.zarr", i, l2=i) for i in range(3)]
    result = trend(runs, "l2")
    assert repr(result) == str(result.to_answer())
    assert repr(trend([str(run.path) for run in runs], "l2")) == repr(result)
    for wrong in (None, [], [3]):
        with pytest.raises(UsageError, match="runs: expected"):
            trend(wrong, "l2")


def make_sweep(folder, values, n_seeds=4):
    """Make a run for each value and seed. The LCA of layer 0 depends mostly on the seed, and a little on the value."""
    return [
        make_run(
            folder / f"{value}-{seed}.zarr",
            10 * random_lca(seed) + random_lca(int(100 * value) + seed + 9) + value,
            training={"learning_rate": value, "seed": seed},
        )
        for value in values
        for seed in range(n_seeds)
    ]


def test_trend_of_two_values_is_the_paired_test_of_two_groups(tmp_path):
    runs = make_sweep(tmp_path, [0.1, 0.9])
    result = trend(runs[::-1], "learning_rate")
    assert result.seeds == [0, 1, 2, 3]
    paired = compare(runs[:4], runs[4:])
    np.testing.assert_allclose(result.p, paired.p[:2], rtol=1e-9)
    y = np.array([run.allocation("train").lca[:3].sum(dtype=np.float64) for run in runs])
    np.testing.assert_allclose(result.p[0], stats.ttest_rel(y[:4], y[4:]).pvalue, rtol=1e-4)


def test_trend_is_tested_by_the_slopes_of_the_seeds(tmp_path):
    values = [0.1, 0.2, 0.8]
    runs = make_sweep(tmp_path, values)
    result = trend(runs, "learning_rate")
    y = np.array([run.allocation("train").lca[:3].sum(dtype=np.float64) for run in runs]).reshape(3, 4)
    slopes = [stats.linregress(values, y[:, seed]).slope for seed in range(4)]
    np.testing.assert_allclose(result.p[0], stats.ttest_1samp(slopes, 0).pvalue, rtol=1e-4)
    np.testing.assert_allclose(result.slope[0], np.mean(slopes), rtol=1e-5)  # the line through all runs
    assert "p (slope = 0, paired by seed)" in result.to_answer().tables[0].columns
    assert "t-test of the slopes of the lines through the runs of each seed (0, 1, 2, 3)." in str(result)
    # With a run missing, or with a single seed, the line through all runs is tested.
    for others in (runs[1:], runs[::4]):
        found = trend(others, "learning_rate")
        assert found.seeds is None
        np.testing.assert_allclose(found.p[0], stats.linregress(found.x, found.lca[:, 0]).pvalue)
