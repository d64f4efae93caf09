"""The difference between the LCA on two splits."""

import numpy as np
from artists import HELP, HURT, LOOK, read_colors, read_heights
from handmade import CONVERGED, LCA, NAN, add_allocation

from lca import figures
from lca.analysis import layers, overfit


def test_bars_are_the_difference_between_two_splits(run):
    add_allocation(run, "val", np.array(LCA) / 2, status=CONVERGED, attributes={"split": "val"})
    result = overfit(run)
    top, bottom = figures.overfit([result], LOOK).axes
    gap = -layers(run).total / 2
    np.testing.assert_allclose(read_heights(top), gap)
    assert read_colors(top) == [HURT if value > 0 else HELP for value in gap]
    expected = np.where(np.isnan(result.gap), NAN, result.cumulative_gap)
    np.testing.assert_allclose([line.get_ydata() for line in bottom.lines[:4:2]], expected.T)
    assert top.get_ylabel() == "LCA on val − train (nats)\nabove 0 overfits"
