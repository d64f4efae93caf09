"""The loss, compared with the sum of all LCA."""

import numpy as np
from artists import LOOK
from handmade import NAN, make_run

from lca import figures
from lca.analysis import loss_curve


def test_sum_of_lca_starts_again_after_a_gap(tmp_path):
    residual = [1e-4, -2e-4, NAN, 3e-4]
    loss = np.array([3.0, 2, 1.5, 1, 0.5])
    run = make_run(
        tmp_path / "run.zarr",
        np.zeros((7, 4)),
        status=[1, 2, 3, 1],
        loss=loss,
        residual=residual,
        allocated=np.diff(loss) + residual,
    )
    curve = loss_curve(run)
    assert [stretch.tolist() for stretch in curve.stretches] == [[0, 1, 2], [3, 4]]
    np.testing.assert_allclose(curve.rebuild_loss(curve.stretches[0]), [3, 2.0001, 1.4999])
    np.testing.assert_allclose(curve.rebuild_loss(curve.stretches[1]), [1, 0.5003])  # starts again after the gap
    top, bottom = figures.loss(curve, LOOK).axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), loss)
    for drawn, stretch in zip(top.lines[1:], curve.stretches, strict=True):
        np.testing.assert_allclose(drawn.get_xdata(), stretch)
        np.testing.assert_allclose(drawn.get_ydata(), curve.rebuild_loss(stretch))
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), residual)
    assert [line.get_ydata()[0] for line in bottom.lines[1:]] == [-0.001, 0.001]
