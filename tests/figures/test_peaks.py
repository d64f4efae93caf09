"""The iterations in which each layer learns most."""

import numpy as np
from artists import HURT, LOOK, read_labels
from handmade import make_run
from matplotlib.colors import to_hex

from lca import figures
from lca.analysis import synchrony
from lca.figures.style import INK, Look


def test_shared_peaks_have_another_color(tmp_path):
    lca = np.zeros((7, 12))
    lca[0, [2, 5, 9]], lca[3, [2, 6, 9]] = -1, -1
    norms = np.ones((13, 4))
    run = make_run(tmp_path / "run.zarr", lca, gradient_norm=norms, motion_norm=norms[:12])
    (axes,) = figures.peaks(synchrony(run), LOOK).axes
    found = {}
    (only,) = figures.peaks(synchrony(run), Look(layers="1")).axes
    assert read_labels(only.get_yticklabels()) == ["1"]
    assert "2 shared by all 2 layers" in only.get_title(loc="left")
    for line in axes.lines:
        for t, height in zip(line.get_xdata(), line.get_ydata(), strict=True):
            found[int(t), int(height)] = to_hex(line.get_color())
    assert found == {(2, 0): HURT, (9, 0): HURT, (5, 0): INK, (2, 1): HURT, (9, 1): HURT, (6, 1): INK}
    assert read_labels(axes.get_yticklabels()) == ["0", "1"]
    assert "2 shared by all 2 layers (" in axes.get_title(loc="left")
