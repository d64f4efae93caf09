"""The LCA of layers: sums over kernels and biases, shares, classes and tests over runs."""

import numpy as np
import pytest
from handmade import CONVERGED, LCA, NAN, columns_of, make_run
from scipy import stats

from lca.analysis import Layers, layers


def test_layer_includes_its_bias(tmp_path):
    lca = [*LCA[:2], [8.0, 0.0, -2.0, NAN], *LCA[3:]]
    result = layers(make_run(tmp_path / "run.zarr", lca, status=CONVERGED))
    assert result.layers == ["0", "1"]
    np.testing.assert_allclose(result.lca, [[4, -0.5], [1, -4.5], [-2, 4], [NAN, NAN]])
    np.testing.assert_allclose(result.total, [3, -1])
    np.testing.assert_allclose(result.total_by_tensor, [-3, 6, 1, -2])
    np.testing.assert_allclose(result.cumulative, [[4, -0.5], [5, -5], [3, -1], [3, -1]])
    assert result.iterations.exclusions == {"not finite": 1}


def test_classes_have_their_own_table(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 4))
    class_lca = rng.normal(size=(4, 3, 4))
    runs = [
        make_run(tmp_path / f"{i}.zarr", values, status=[1, 1, 3, 1], class_lca=class_lca + i, attributes=names)
        for i, names in enumerate([{"class_names": ["cat", "dog", "7"]}] * 2)
    ]
    result = layers(runs[0])
    counted = class_lca[[0, 1, 3]].sum(0)
    np.testing.assert_allclose(result.by_class, np.stack([counted[:, :2].sum(1), counted[:, 2:].sum(1)], 1))
    title = "LCA (nats) by class: the change in each class's contribution to the loss"
    found = columns_of(Layers.tabulate([layers(run) for run in runs]), title)
    assert list(found) == ["cat", "dog", "7"]
    assert found["dog"]["1"]["values"] == pytest.approx([counted[1, 2:].sum(), counted[1, 2:].sum() + 2 * 3])
    assert found["dog"]["sum"]["mean"] == pytest.approx(counted[1].sum() + 0.5 * 4 * 3)
    without = make_run(tmp_path / "without.zarr", values)
    assert title not in [table.title for table in Layers.tabulate([layers(without)]).tables]
    assert title not in [table.title for table in Layers.tabulate([result, layers(without)]).tables]


def test_tables_equal_sums_and_tests_over_runs(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(-1, 1, (3, 7, 10))
    runs = [make_run(tmp_path / f"{i}.zarr", v) for i, v in enumerate(values)]
    answer = Layers.tabulate([layers(run) for run in runs])
    totals = values.sum(2)
    by_layer = np.stack([totals[:, :3].sum(1), totals[:, 3:].sum(1), totals.sum(1)])
    for row, of_runs in zip(("0", "1", "sum"), by_layer, strict=True):
        found = columns_of(answer)
        assert found["LCA (nats)"][row]["values"] == pytest.approx(of_runs, rel=1e-6)
        assert found["LCA (nats)"][row]["deviation"] == pytest.approx(of_runs.std(ddof=1), rel=1e-6)
        assert found["share of sum %"][row]["mean"] == pytest.approx((100 * of_runs / by_layer[2]).mean(), rel=1e-6)
        p = found["p (t-test against 0)"][row]["mean"]
        assert p == pytest.approx(stats.ttest_1samp(of_runs, 0).pvalue, rel=1e-5)
    by_tensor = columns_of(answer, "by tensor: kernels, biases and norms separately")
    assert by_tensor["LCA (nats)"]["all biases"]["values"] == pytest.approx(totals[:, [2, 5, 6]].sum(1), rel=1e-6)
    share = (100 * totals[:, 2] / by_layer[0]).mean()
    assert by_tensor["share of layer %"]["0.bias"]["mean"] == pytest.approx(share, rel=1e-5)
    cumulative = columns_of(answer, "cumulative LCA (nats) after the given fraction of iterations")
    assert cumulative["30 %"]["1"]["values"] == pytest.approx(values[:, 3:, :3].sum((1, 2)), rel=1e-5)


def test_runs_of_different_length_are_compared_at_the_same_fraction(tmp_path):
    runs = [make_run(tmp_path / f"{T}.zarr", np.ones((7, T))) for T in (10, 20)]
    answer = Layers.tabulate([layers(run) for run in runs])
    cells = columns_of(answer, "cumulative LCA (nats) after the given fraction of iterations")
    assert cells["30 %"]["sum"]["values"] == [21, 42]
    assert str(answer).endswith("2 runs of 10 or 20 iterations.")
    assert answer.to_json()["cumulative"][0]["iteration"] == list(range(10))
