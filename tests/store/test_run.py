import json

import numpy as np
import pytest
from handmade import make_run

import lca
from lca.errors import LCAError, UsageError


def test_opening_anything_but_a_run_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist. Create a run with lca.train\\(problem, '.*nothing.zarr'\\)"):
        lca.open(tmp_path / "nothing.zarr")
    with pytest.raises(
        UsageError, match="is not a run store: expected a zarr.json with the attribute 'lca', found none"
    ):
        lca.open(tmp_path)


def test_a_store_with_another_schema_is_refused(run):
    metadata = json.loads((run / "zarr.json").read_text())
    metadata["attributes"]["lca"]["schema"] = 99
    (run / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(LCAError, match="the schema of .*run.zarr: expected 4, found 99. Record the run again"):
        lca.open(run)


def test_a_missing_allocation_is_an_error_that_names_the_call(run):
    with pytest.raises(
        LCAError,
        match="has no allocation 'val'; it has none yet. Create it with lca.allocate\\(.*, problem, split='val'\\)",
    ):
        lca.open(run).allocation("val")


def test_an_allocation_opens_as_an_xarray_dataset(tmp_path):
    pytest.importorskip("xarray", reason="needs the extra `xarray`")
    lca = np.arange(70.0).reshape(7, 10)
    run = make_run(tmp_path / "run.zarr", lca, class_lca=np.ones((10, 3, 4)))
    data = run.to_xarray()
    assert data.lca.dims == ("parameter", "iteration")
    assert float(data.lca.sel(iteration=4).sum()) == lca[:, 4].sum()
    by_layer = data.tensor_lca.groupby("layer").sum()
    np.testing.assert_allclose(by_layer.sel(layer="1").sum(), lca[3:].sum())
    assert data.tensor_lca.sel(tensor="0.bias").values.tolist() == lca[2].tolist()
    assert data.class_lca.sel({"class": 2}).shape == (10, 4)
    assert data.loss.sizes == {"iterate": 11}
    with pytest.raises(LCAError, match="has no allocation 'val'"):
        run.to_xarray("val")
