"""The cumulative LCA of individual parameters."""

import numpy as np
import pytest
from artists import LOOK
from handmade import LCA, make_run
from torch import nn

from lca import figures
from lca.analysis import curves
from lca.analysis._curves import name_parameter
from lca.errors import UsageError


def test_each_selected_parameter_has_a_line(run):
    result = curves(run, parameters=["best", "1.bias", "0.weight[0, 1]"])
    (axes,) = figures.curves(result, LOOK).axes
    totals = np.nansum(np.array(LCA)[:, :3], axis=1)
    order = np.argsort(totals, kind="stable")[:5].tolist()
    assert result.index == list(dict.fromkeys([*order, 5, 6, 1]))
    assert result.names[0] == "0.weight[0, 1]"
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == result.names
    for line, index in zip(lines, result.index, strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.cumsum(LCA[index]))  # NaN in the last iteration


def test_parameters_are_named_by_tensor_and_index(run):
    assert [name_parameter(i, run.parameters) for i in (0, 1, 2, 4, 6)] == [
        "0.weight[0, 0]",
        "0.weight[0, 1]",
        "0.bias[0]",
        "1.weight[1, 0]",
        "1.bias[1]",
    ]
    assert curves(run, parameters=["4"]).names == ["1.weight[1, 0]"]
    drawn = curves(run, parameters=["random"], seed=3)
    assert len(drawn.names) == 5
    assert drawn.names == curves(run, parameters=["random"], seed=3).names


@pytest.mark.parametrize("parameter", ["fc9", "7", "0.weight[5]", "0.weight[0,2]", "0.weight[a]", "-1"])
def test_unknown_parameter_is_refused(run, parameter):
    with pytest.raises(UsageError, match=r"an index from 0 to 6, .*The tensors are 0.weight\[1, 2\], 0.bias\[1\]"):
        curves(run, parameters=[parameter])


def test_too_many_curves_are_refused(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.zeros((1_102, 3)), model=nn.Linear(1_101, 1))
    with pytest.raises(UsageError, match="parameters: expected at most 1,000 .*, found 1,101"):
        curves(run, parameters=["weight"])
