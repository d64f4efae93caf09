"""The residuals of several allocations."""

import numpy as np
from artists import LOOK
from handmade import CONVERGED, LCA, NAN, make_run

from lca import figures
from lca.analysis import loss_curve


def test_each_allocation_has_its_residuals(tmp_path):
    curve = loss_curve(make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, residual=[1e-4, -3e-4, 0, NAN]))
    top, bottom = figures.error({"train, simpson": curve, "first": curve}, LOOK).axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), [1e-4, 3e-4, NAN, NAN])
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), [1e-4, 2e-4, 2e-4, NAN])
    assert [line.get_label() for line in top.lines[:2]] == ["train, simpson", "first"]
    assert top.get_yscale() == bottom.get_yscale() == "log"
