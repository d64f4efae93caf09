"""The cumulative LCA of each layer."""

import numpy as np
from artists import LOOK
from handmade import CONVERGED, LCA, NAN, add_allocation

from lca import figures
from lca.analysis import layers


def test_each_layer_has_a_color_and_each_allocation_a_line_style(run):
    add_allocation(run, "val", 2 * np.array(LCA), status=CONVERGED, attributes={"split": "val"})
    (axes,) = figures.cumulative({name: layers(run, name=name) for name in ("train", "val")}, LOOK).axes
    lines = axes.lines[:8:2]  # each line is followed by its dots
    of_train = layers(run).cumulative
    of_train[3] = NAN  # the iteration that is not finite
    np.testing.assert_allclose([line.get_ydata() for line in lines], [*of_train.T, *2 * of_train.T])
    assert [line.get_linestyle() for line in lines] == ["-", "-", "--", "--"]
    assert lines[0].get_color().tolist() == lines[2].get_color().tolist()
