"""The total LCA of the layers, for runs and groups of runs."""

import numpy as np
import pytest
from artists import HELP, HURT, LOOK, read_colors, read_heights, read_labels, read_whiskers
from handmade import CONVERGED, LCA, make_run

from lca import figures
from lca.analysis import layers
from lca.errors import UsageError
from lca.figures.style import Look


def test_colors_show_the_sign_for_a_single_group(tmp_path):
    runs = []
    for i, total in enumerate((-1.0, -3.0)):
        values = np.zeros((7, 1))
        values[0], values[3] = total, 0.5 + 0.2 * i
        runs.append(make_run(tmp_path / f"{i}.zarr", values))
    figure = figures.layers({"A": [layers(run) for run in runs]}, LOOK)
    (axes,) = figure.axes
    assert read_heights(axes) == pytest.approx([-2, 0.6])
    assert read_colors(axes) == [HELP, HURT]
    assert read_whiskers(axes) == pytest.approx([2 * 2**0.5, 2 * 0.02**0.5])
    assert read_labels(axes.get_xticklabels()) == ["0", "1"]
    assert figure.legends == []


def test_each_of_several_groups_has_a_color(run, tmp_path):
    other = make_run(tmp_path / "other.zarr", np.negative(LCA), status=CONVERGED)
    groups = {"regular": [layers(run)], "frozen": [layers(other)]}
    figure = figures.layers(groups, Look(layers="1"))
    (axes,) = figure.axes
    total = layers(run).total[1]
    assert read_heights(axes) == pytest.approx([total, -total])
    assert read_colors(axes) == list(LOOK.palette.others[:2])
    assert read_labels(figure.legends[0].texts) == ["regular (n = 1)", "frozen (n = 1)"]
    with pytest.raises(UsageError, match="no layer matches 'conv'. The layers are 0, 1."):
        figures.layers(groups, Look(layers="conv"))
