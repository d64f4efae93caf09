"""Selection of individual parameters, and their LCA compared with the store."""

import numpy as np
import pytest
from handmade import CONVERGED, LCA, NAN, columns_of, make_run, random_lca

from lca.analysis import curves
from lca.analysis._curves import name_parameter
from lca.errors import UsageError


def test_curves_equal_rows_of_the_store(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED)
    result = curves(run, parameters=["1.weight", "0", "1.weight[1, 0]"])
    assert result.names == ["1.weight[0, 0]", "1.weight[1, 0]", "0.weight[0, 0]"]
    assert result.index == [3, 4, 0]
    np.testing.assert_array_equal(result.lca, [LCA[3], LCA[4], LCA[0]])
    np.testing.assert_array_equal(result.cumulative[0], [1, 0, 4, 4])
    assert columns_of(result)["LCA (nats)"]["1.weight[0, 0]"]["mean"] == 4
    unconverged = make_run(tmp_path / "other.zarr", LCA, status=[1, 2, 1, 3])
    np.testing.assert_array_equal(curves(unconverged, parameters=["0"]).lca, [[-1, 2, 0, NAN]])


def test_best_parameters_have_the_lowest_total(tmp_path):
    lca = random_lca(0)
    run = make_run(tmp_path / "run.zarr", lca)
    order = np.argsort(lca.sum(axis=1, dtype=np.float64)).tolist()
    assert curves(run, parameters=["best"]).index == order[:5]
    assert curves(run, parameters=["worst"]).index == order[::-1][:5]
    assert curves(run).index == [*order[:5], *order[5:][::-1]]
    random = curves(run, parameters=["random"], seed=3).index
    assert random == curves(run, parameters=["random"], seed=3).index
    assert len(set(random)) == 5


@pytest.mark.parametrize("name", ["7", "0.weight[2, 0]", "0.weight[x]", "other", "0.weight[1"])
def test_unknown_parameter_is_rejected_with_the_valid_ones(tmp_path, name):
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED)
    with pytest.raises(UsageError, match=r"no parameter .* an index from 0 to 6, .* The tensors are 0.weight\[1, 2\]"):
        curves(run, parameters=[name])


def test_too_many_parameters_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr("lca.analysis._curves.MAX_CURVES", 1)
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED)
    with pytest.raises(UsageError, match="parameters: expected at most 1 parameters, found 2"):
        curves(run, parameters=["0.weight"])


def test_parameter_names_contain_the_position_in_the_tensor(tmp_path):
    table = make_run(tmp_path / "run.zarr", LCA).parameters
    names = [name_parameter(i, table) for i in (0, 1, 2, 4, 6)]
    assert names == ["0.weight[0, 0]", "0.weight[0, 1]", "0.bias[0]", "1.weight[1, 0]", "1.bias[1]"]
