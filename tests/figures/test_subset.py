"""The agreement between allocations over subsets and over all examples."""

import numpy as np
from artists import LOOK
from handmade import CONVERGED, LCA, add_allocation

from lca import figures
from lca.analysis import subset
from lca.store.allocation_writer import AllocationWriter


def test_panels_show_the_agreement_by_size(run):
    AllocationWriter(run.allocation("train")).note("examples", 100)
    for n in (10, 50):
        add_allocation(run, f"of-{n}", np.array(LCA) + 1 / n, status=CONVERGED, attributes={"examples": n})
    run = type(run)(run.path, run.group)
    result = subset(run)
    panels = figures.subset([result], LOOK).axes
    assert panels[0].lines[0].get_xdata().tolist() == [10, 50]
    found = list(result.agreements.values())
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), [a.correlation for a in found])
    np.testing.assert_allclose(panels[2].lines[0].get_ydata(), [100 * a.layer_error for a in found])
