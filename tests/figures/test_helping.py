"""The percentages of helping and hurting parameters over time."""

import numpy as np
import pytest
from artists import HELP, HURT, LOOK
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from lca import figures
from lca.analysis import helping
from lca.errors import UsageError
from lca.figures.style import Look


def test_percentages_are_stacked(run):
    result = helping(run)
    top, bottom = figures.helping(result, LOOK).axes
    assert top.get_title(loc="left") == "a title"
    np.testing.assert_allclose(top.lines[0].get_ydata(), [3, 2, 1.5, 1])  # the last loss is unknown
    assert top.lines[0].get_marker() == "."
    bands = [patch for patch in bottom.patches if isinstance(patch, StepPatch)]
    helped, hurt, zero = result.shares.helped, result.shares.hurt, result.shares.zero
    low = np.zeros(4)
    for band, share, label, color in zip(
        bands,
        (helped, zero, hurt),
        ("helped (LCA < 0)", "no effect", "hurt (LCA > 0)"),
        (HELP, LOOK.palette.zero, HURT),
        strict=True,
    ):
        values, edges, baseline = band.get_data()
        np.testing.assert_allclose(baseline, low)
        np.testing.assert_allclose(values, low + share)
        np.testing.assert_allclose(edges, [-0.5, 0.5, 1.5, 2.5, 3.5])
        assert (band.get_label(), to_hex(band.get_facecolor())) == (label, color)
        low = low + share
    assert np.isnan(low[3])
    assert (top.get_ylabel(), bottom.get_ylabel(), bottom.get_xlabel()) == (
        "loss (nats)",
        "parameters (%)",
        "iteration",
    )


def test_look_selects_iterations(run):
    top, bottom = figures.helping(helping(run), Look(iterations=(1, 3))).axes
    assert top.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert bottom.get_xlim() == (0.5, 3.5)  # includes the last iterate
    with pytest.raises(UsageError, match=r"iterations 4:4 select nothing. The run has 4 iterations \(0 to 3\)"):
        figures.helping(helping(run), Look(iterations=(9, None)))
