"""The number of iterations per change of direction."""

import numpy as np
from artists import LOOK, read_heights, read_labels
from handmade import make_run

from lca import figures
from lca.analysis import oscillation


def test_bars_are_iterations_per_change(tmp_path):
    weights = np.cumsum(np.random.default_rng(0).normal(size=(7, 30)), axis=1)
    result = oscillation(make_run(tmp_path / "run.zarr", np.diff(weights), weights=weights), crossings=False)
    figure = figures.oscillation([result, result], LOOK)
    axes = figure.axes[0]
    np.testing.assert_allclose(read_heights(axes)[:3], result.iterations_per(result.turns))
    np.testing.assert_allclose(read_heights(axes)[3:], result.iterations_per(result.of_lca))
    assert read_labels(axes.get_xticklabels()) == ["all", "0", "1"]
    assert read_labels(figure.legends[0].texts) == ["weight turns", "LCA turns"]
