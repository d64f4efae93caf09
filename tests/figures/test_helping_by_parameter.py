"""How often parameters help."""

import numpy as np
from artists import LOOK

from lca import figures
from lca.analysis import helping


def test_helping_by_parameter(run):
    result = helping(run)
    (axes,) = figures.helping_by_parameter([result, result], LOOK).axes
    values, edges, _ = axes.patches[0].get_data()
    np.testing.assert_allclose(values, 100 * result.histogram / 6)
    np.testing.assert_allclose(edges, np.arange(0, 101, 2))
    assert len(axes.patches) == 3  # the mean, and an outline for each run
