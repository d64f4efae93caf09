"""The percentage of helping parameters in each layer."""

import numpy as np
from artists import HELP, LOOK, read_colors, read_heights, read_labels, read_whiskers
from handmade import CONVERGED, LCA, make_run

from lca import figures
from lca.analysis import helping


def test_bars_are_means_over_runs(run, tmp_path):
    other = make_run(tmp_path / "other.zarr", np.negative(LCA), status=CONVERGED)
    results = [helping(run), helping(other)]
    (axes,) = figures.helping_by_layer(results, LOOK).axes
    values = np.array([result.percentage_by_layer for result in results])
    np.testing.assert_allclose(read_heights(axes), values.mean(0))
    np.testing.assert_allclose(read_whiskers(axes), 2 * values.std(0, ddof=1))
    assert read_labels(axes.get_xticklabels()) == ["0", "1"]
    assert read_colors(axes) == [HELP, HELP]
