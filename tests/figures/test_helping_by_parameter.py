"""The histogram of how often parameters help."""

import numpy as np
from artists import LOOK

from lca import figures
from lca.analysis import helping


def test_histogram_is_the_mean_over_runs(run):
    result = helping(run)
    (axes,) = figures.helping_by_parameter([result, result], LOOK).axes
    values, edges, _ = axes.patches[0].get_data()
    np.testing.assert_allclose(values, 100 * result.histogram / 6)
    np.testing.assert_allclose(edges, np.arange(0, 101, 2))
    assert len(axes.patches) == 3  # the mean, and one outline per run
