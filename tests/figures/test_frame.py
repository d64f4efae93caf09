"""The LCA of every parameter in one iteration."""

import pytest
from artists import LOOK
from matplotlib.colors import to_hex

from lca import figures
from lca.errors import UsageError


def test_frame_shows_each_tensor_as_a_matrix(run):
    figure = figures.frame(run, LOOK, iteration=1)
    panels = {axes.get_title(): axes.images[0] for axes in figure.axes if axes.images}
    assert panels["0.weight"].get_array().tolist() == [[2, -1]]
    assert panels["1.weight"].get_array().tolist() == [[-1], [-1]]
    assert panels["1.bias"].get_array().tolist() == [[-0.5, -2]]
    low, high = panels["0.weight"].get_clim()
    assert low == -high == pytest.approx(-2, abs=0.1)
    assert to_hex(panels["0.weight"].get_cmap()(0.5)) == "#ffffff"
    assert figure._suptitle.get_text() == "a title, iteration 1"
    with pytest.raises(UsageError, match="iteration 4 is not allocated in .* Pass an allocated iteration from 0 to 3."):
        figures.frame(run, LOOK, iteration=4)
