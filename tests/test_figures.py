"""What is drawn: the data of the artists, not pixels."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from lca.analysis import Helping, Layers
from lca.analysis.iterations import Iterations
from lca.errors import UsageError
from lca.figures import helping, layers, style
from lca.parameters import Parameter, ParameterTable


def result(T=4, missing=()):
    counted = np.array([t not in missing for t in range(T)])
    counts = np.where(counted[:, None, None], [[[6], [3], [1]]], 0)
    return Helping(
        helped=counts[:, 0],
        hurt=counts[:, 1],
        zero=counts[:, 2],
        histogram=np.ones(50, int),
        n_without_effect=0,
        iterations=Iterations(counted, {}),
        tensors=["w"],
        layers=["w"],
        layer=np.array([0]),
        loss=np.linspace(2, 1, T + 1),
        audit=None,
    )


@pytest.mark.parametrize("missing", [(), (1, 3)])
def test_helping_stacks_the_shares(missing):
    top, bottom = helping.draw(result(missing=missing), "a title").axes
    assert top.get_title(loc="left") == "a title"
    np.testing.assert_allclose(top.lines[0].get_ydata(), np.linspace(2, 1, 5))
    bands = [patch for patch in bottom.patches if isinstance(patch, StepPatch)]
    there = np.array([np.nan if t in missing else 1 for t in range(4)])
    expected = [("helped", 0, 60, style.HELP), ("zero", 60, 70, style.ZERO), ("hurt", 70, 100, style.HURT)]
    for band, (label, low, high, colour) in zip(bands, expected, strict=True):
        values, edges, baseline = band.get_data()
        np.testing.assert_allclose(values, high * there)
        np.testing.assert_allclose(baseline, low * there if low else np.zeros(4))
        np.testing.assert_allclose(edges, [-0.5, 0.5, 1.5, 2.5, 3.5])
        assert (band.get_label(), to_hex(band.get_facecolor())) == (label, colour)
    assert (top.get_ylabel(), bottom.get_ylabel(), bottom.get_xlabel()) == (
        "loss (nats)",
        "parameters (%)",
        "iteration",
    )


def test_layers_draws_means_with_deviations():
    table = ParameterTable((Parameter("a.w", (1,), 0, 1, "a", "kernel"), Parameter("b.w", (1,), 1, 1, "b", "kernel")))
    chosen = Iterations(np.array([True]), {})
    runs = [Layers(table, np.array([values]), chosen) for values in ([-1.0, 0.5], [-3.0, 0.7])]
    (axes,) = layers.draw(runs, "two runs").axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([-2, 0.6])
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [style.HELP, style.HURT]
    (whiskers,) = (container.lines[2][0] for container in axes.containers if hasattr(container, "has_yerr"))
    lengths = [segment[1, 1] - segment[0, 1] for segment in whiskers.get_segments()]
    assert lengths == pytest.approx([2 * 2**0.5, 2 * 0.02**0.5])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_suffix_decides_the_format(tmp_path, suffix, magic):
    path = tmp_path / "new" / f"figure{suffix}"
    style.save(helping.draw(result(), ""), path)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["figure.bmp", "figure"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf are known"):
        style.save(helping.draw(result(), ""), tmp_path / name)
