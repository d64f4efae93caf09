"""The LCA of the layers as a function of a training option."""

import numpy as np
import pytest
from handmade import make_run

from lca import figures
from lca.analysis import trend
from lca.figures.style import Look


def test_lines_show_the_values_of_the_option_and_the_fit(tmp_path):
    runs = [
        make_run(tmp_path / f"{i}.zarr", np.outer([1, 0, 0, 0, 0, 0, 0], [2.0 * i, 1]), training={"momentum": i})
        for i in (1, 2, 4)
    ]
    result = trend(runs, "momentum")
    left, right = figures.trend(result, Look(layers="0")).axes
    assert [line.get_ydata()[0] for line in left.lines[:3]] == pytest.approx([3, 5, 9])
    assert [text.get_text() for text in left.get_legend().texts] == ["1", "2", "4"]
    np.testing.assert_allclose(right.collections[0].get_offsets(), [[1, 3], [2, 5], [4, 9]])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [3, 9])
    assert right.lines[0].get_label() == "R² = 1.000"
