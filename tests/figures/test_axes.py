"""Lines, color scales and layer names."""

import numpy as np
import pytest
from artists import LOOK
from handmade import NAN
from matplotlib.figure import Figure

from lca import figures
from lca.figures.axes import choose_width, draw_line, escape_text, make_scale, name_layers, set_title


def test_isolated_point_is_a_dot():
    axes = Figure().subplots()
    draw_line(axes, np.arange(6), np.array([1, NAN, 2, 3, NAN, 4]))
    assert axes.lines[1].get_xdata().tolist() == [0, 5]
    assert axes.lines[1].get_marker() == "."


def test_names_are_shown_literally(tmp_path):
    with LOOK.figure(3, 3) as figure:
        axes = figure.subplots()
        set_title(axes, r"a $\frac{1}$ b")
        axes.plot([0, 1], label=escape_text("_body $_{$"))
        legend = axes.legend()
    figures.save(figure, tmp_path / "figure.svg")
    assert [text.get_text().strip() for text in legend.texts] == [r"_body \$_{\$"]
    assert r"a $\frac{1}$ b" in (tmp_path / "figure.svg").read_text()


def test_color_scale_ends_at_the_99th_percentile_of_non_zero_values():
    values = np.append(np.linspace(-1, 1, 1001), [NAN, 0.0, 50.0])
    norm = make_scale(values)
    assert norm.vmin == -norm.vmax == pytest.approx(-0.99, abs=0.01)
    assert make_scale(np.zeros(3)).vmax == 1


def test_long_names_are_rotated():
    axes = Figure().subplots()
    name_layers(axes, [f"block{i}.conv1" for i in range(22)])
    assert axes.get_xticklabels()[0].get_rotation() == 60
    assert choose_width(["layer"] * 22) > 8
