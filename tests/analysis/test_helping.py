"""Helping parameters by tensor and layer, counted by hand."""

import numpy as np
import pytest
from handmade import CONVERGED, LCA, NAN, columns_of, make_audit, make_run
from scipy import stats

from lca.analysis import Helping, helping, layers


def test_counts_and_percentages_equal_those_by_hand(tmp_path):
    result = helping(make_run(tmp_path / "run.zarr", LCA, status=CONVERGED))
    assert result.helped.tolist() == [[2, 0, 1, 0], [1, 0, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert result.hurt.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert result.zero.tolist() == [[0, 1, 0, 1], [0, 1, 0, 0], [2, 1, 1, 2], [0, 0, 0, 0]]
    # parameters that help among those with non-zero LCA: 3 of 5, 5 of 6, 0 of 1
    assert result.percentage == pytest.approx(100 * (3 / 5 + 5 / 6 + 0) / 3)
    # 0.weight: 2/2, 1/2; 0.bias never; 1.weight: 1/2, 2/2, 0/1; 1.bias: 0/1, 2/2
    np.testing.assert_allclose(result.percentage_by_tensor, [75, NAN, 50, 50])
    # layer 0: 2/2, 1/2; layer 1: 1/3, 4/4, 0/1
    np.testing.assert_allclose(result.percentage_by_layer, [75, 100 * (1 / 3 + 1 + 0) / 3])
    # number of helpful iterations of each parameter, of three: 1, 2, none (no effect), 1, 2, 1, 1
    assert result.histogram.tolist() == [4 if i == 16 else 2 if i == 33 else 0 for i in range(50)]
    assert result.n_without_effect == 1
    assert result.iterations.mask.tolist() == [True, True, True, False]
    assert result.tensors == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert result.layers == ["0", "1"]


def test_unconverged_iterations_are_counted(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, status=[1, 2, 1, 3])
    assert helping(run).helped.sum(1).tolist() == [3, 5, 0, 0]
    np.testing.assert_allclose(layers(run).total, [-3, -1])


def test_parameter_that_always_helps_is_in_the_last_bin(tmp_path):
    result = helping(make_run(tmp_path / "run.zarr", -np.ones((7, 70))))
    assert result.histogram.tolist() == [0] * 49 + [7]


def test_shares_refer_to_all_parameters_and_are_nan_if_excluded(tmp_path):
    shares = helping(make_run(tmp_path / "run.zarr", LCA, status=CONVERGED)).shares
    helped, hurt, zero = shares.helped, shares.hurt, shares.zero
    np.testing.assert_allclose(helped, [300 / 7, 500 / 7, 0, NAN])
    np.testing.assert_allclose(hurt, [200 / 7, 100 / 7, 100 / 7, NAN])
    np.testing.assert_allclose(zero, [200 / 7, 100 / 7, 600 / 7, NAN])


def test_tables_and_notes_show_percentages_and_audit(tmp_path):
    audit = make_audit([0, 1], [0.01, 0.01], [0.0, 0.0], [0.02, 0.04], [0.5, 0.7]).to_json()
    a = make_run(tmp_path / "a.zarr", LCA, status=CONVERGED, attributes={"audit_result": audit})
    b = make_run(tmp_path / "b.zarr", np.negative(LCA), status=CONVERGED)
    answer = Helping.tabulate([helping(a), helping(b)])
    percentages = [100 * (3 / 5 + 5 / 6) / 3, 100 * (2 / 5 + 1 / 6 + 1) / 3]
    cells = columns_of(answer)["helping %"]["all parameters"]
    assert cells["values"] == pytest.approx(percentages)
    assert cells["mean"] == pytest.approx(np.mean(percentages))
    assert cells["deviation"] == pytest.approx(np.std(percentages, ddof=1))
    assert columns_of(answer, "by tensor")["helping %"]["0.bias"]["mean"] is None
    text = str(answer)
    # The half-width is t(0.975, 1) · 0.1414 / √2 percentage points. For wrong signs it is ten times that, in %.
    half = stats.t.ppf(0.975, 1) * np.std([0.5, 0.7], ddof=1) / 2**0.5
    assert (
        f"Audit, run 0: helping % is off by 0.600 ± {half:.3f} percentage points, and 3.00 ± {10 * half:.2f} % of the"
        in text
    )
    assert "Audit, run 1: none" in text
    assert text.endswith("2 runs of 4 iterations (excluded: 2 not finite).")
    assert len(answer.to_json()["histogram"][0]) == 50


def test_single_audited_iteration_has_no_interval(tmp_path):
    audit = make_audit([0], [0.01], [0.0], [0.02], [0.5]).to_json()
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, attributes={"audit_result": audit})
    assert "helping % is off by 0.500 percentage points, and 2.00 % of the signs" in str(
        Helping.tabulate([helping(run)])
    )
