"""The distribution of LCA and the curves fitted to it."""

import numpy as np
import pytest
from artists import HELP, HURT, LOOK
from handmade import make_run
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from lca import figures
from lca.analysis import tails
from lca.errors import LCAError


def test_bars_and_fitted_curves_match_the_values(tmp_path):
    values = np.random.default_rng(0).normal(0, 1e-3, (7, 4_000))
    result = tails(make_run(tmp_path / "run.zarr", values))
    (axes,) = figures.distribution(result, LOOK).axes
    helped, hurt = (patch for patch in axes.patches if isinstance(patch, StepPatch))
    assert (to_hex(helped.get_facecolor()), to_hex(hurt.get_facecolor())) == (HELP, HURT)
    limit = np.percentile(np.abs(values), 99)
    for patch, sign in ((helped, -1), (hurt, 1)):
        density, edges, _ = patch.get_data()
        assert np.abs(edges).max() == pytest.approx(limit, rel=0.01)
        assert (sign * edges >= 0).all()
        expected, _ = np.histogram(values, edges)
        np.testing.assert_allclose(
            density, expected / (values.size * np.diff(edges)), rtol=0.35
        )  # about 100 values per bar
        assert (density * np.diff(edges)).sum() == pytest.approx(0.495, abs=0.01)
    for line, sign, k, part in zip(
        axes.lines[:2], (-1, 1), (result.weibull.helped, result.weibull.hurt), (result.helped, result.hurt), strict=True
    ):
        scale = (part.counts @ part.values**k / part.n) ** (1 / k)
        x = sign * line.get_xdata()
        expected = part.n / result.both.n * k / scale * (x / scale) ** (k - 1) * np.exp(-((x / scale) ** k))
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    gaussian = axes.lines[-1]
    assert gaussian.get_label() == "Gaussian"
    assert gaussian.get_ydata().max() == pytest.approx(1 / (1e-3 * (2 * np.pi) ** 0.5), rel=0.02)
    assert axes.get_xlabel().endswith("(nats)\nbelow 0 helps, above 0 hurts (largest 1 % cut off)")


def test_distribution_of_zeros_is_refused(tmp_path):
    with pytest.raises(LCAError, match="there is no distribution to draw"):
        figures.distribution(tails(make_run(tmp_path / "run.zarr", np.zeros((7, 4)))), LOOK)
