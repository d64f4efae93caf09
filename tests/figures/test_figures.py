"""What is drawn: the data of the artists, their labels and colours, not pixels."""

import numpy as np
import pytest
from handmade import CONVERGED, LCA, NAN, add_allocation, make_run
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch
from torch import nn

from lca import figures
from lca.analysis import (
    curves,
    helping,
    layers,
    loss_curve,
    neurons,
    oscillation,
    overfit,
    subset,
    synchrony,
    tails,
    trend,
)
from lca.analysis._curves import name_of
from lca.analysis._neurons import NeuronSums
from lca.analysis._prune import Pruned
from lca.analysis.tiles import feed
from lca.errors import LCAError, UsageError
from lca.figures import style
from lca.figures._neurons import _mean_over
from lca.figures.matrices import matrices
from lca.figures.style import COLOURS, Look
from lca.store.parameters import ParameterTable

LOOK = Look("a title")
HELP, HURT = COLOURS["green-red"].help, COLOURS["green-red"].hurt


@pytest.fixture
def run(tmp_path):
    """The LCA made by hand; of its four iterations the last is not finite."""
    return make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, loss=[3.0, 2, 1.5, 1, NAN])


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def colours(axes):
    return [to_hex(bar.get_facecolor()) for bar in axes.patches]


def labels(ticks):
    return [label.get_text() for label in ticks]


def whiskers(axes):
    """The lengths of the error bars."""
    (bars,) = (container.lines[2][0] for container in axes.containers if hasattr(container, "has_yerr"))
    return [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]


def test_helping_stacks_the_shares(run):
    result = helping(run)
    top, bottom = figures.helping(result, LOOK).axes
    assert top.get_title(loc="left") == "a title"
    np.testing.assert_allclose(top.lines[0].get_ydata(), [3, 2, 1.5, 1])  # the last one is not known
    assert top.lines[0].get_marker() == "."
    bands = [patch for patch in bottom.patches if isinstance(patch, StepPatch)]
    helped, hurt, zero = result.shares()
    low = np.zeros(4)
    for band, share, label, colour in zip(
        bands, (helped, zero, hurt), ("helped", "zero", "hurt"), (HELP, LOOK.colours.zero, HURT), strict=True
    ):
        values, edges, baseline = band.get_data()
        np.testing.assert_allclose(baseline, low)
        np.testing.assert_allclose(values, low + share)
        np.testing.assert_allclose(edges, [-0.5, 0.5, 1.5, 2.5, 3.5])
        assert (band.get_label(), to_hex(band.get_facecolor())) == (label, colour)
        low = low + share
    assert np.isnan(low[3])
    assert (top.get_ylabel(), bottom.get_ylabel(), bottom.get_xlabel()) == (
        "loss (nats)",
        "parameters (%)",
        "iteration",
    )


def test_only_some_iterations_are_drawn(run):
    top, bottom = figures.helping(helping(run), Look(iterations=(1, 3))).axes
    assert top.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert bottom.get_xlim() == (0.5, 3.5)  # with the last iterate
    with pytest.raises(UsageError, match=r"iterations 4:4 are none; there are 4, 0 to 3"):
        figures.helping(helping(run), Look(iterations=(9, None)))


def test_helping_by_layer(run, tmp_path):
    other = make_run(tmp_path / "other.zarr", np.negative(LCA), status=CONVERGED)
    results = [helping(run), helping(other)]
    (axes,) = figures.helping_by_layer(results, LOOK).axes
    values = np.array([result.percentage_by_layer for result in results])
    np.testing.assert_allclose(heights(axes), values.mean(0))
    np.testing.assert_allclose(whiskers(axes), 2 * values.std(0, ddof=1))
    assert labels(axes.get_xticklabels()) == ["0", "1"]
    assert colours(axes) == [HELP, HELP]


def test_helping_by_parameter(run):
    result = helping(run)
    (axes,) = figures.helping_by_parameter([result, result], LOOK).axes
    values, edges, _ = axes.patches[0].get_data()
    np.testing.assert_allclose(values, 100 * result.histogram / 6)
    np.testing.assert_allclose(edges, np.arange(0, 101, 2))
    assert len(axes.patches) == 3  # the mean, and an outline for each run


def test_layers_of_one_group_by_who_helps(tmp_path):
    runs = []
    for i, total in enumerate((-1.0, -3.0)):
        values = np.zeros((7, 1))
        values[0], values[3] = total, 0.5 + 0.2 * i
        runs.append(make_run(tmp_path / f"{i}.zarr", values))
    figure = figures.layers({"A": [layers(run) for run in runs]}, LOOK)
    (axes,) = figure.axes
    assert heights(axes) == pytest.approx([-2, 0.6])
    assert colours(axes) == [HELP, HURT]
    assert whiskers(axes) == pytest.approx([2 * 2**0.5, 2 * 0.02**0.5])
    assert labels(axes.get_xticklabels()) == ["0", "1"]
    assert figure.legends == []


def test_layers_of_several_groups_by_colour(run, tmp_path):
    other = make_run(tmp_path / "other.zarr", np.negative(LCA), status=CONVERGED)
    groups = {"regular": [layers(run)], "frozen": [layers(other)]}
    figure = figures.layers(groups, Look(layers="1"))
    (axes,) = figure.axes
    total = layers(run).total[1]
    assert heights(axes) == pytest.approx([total, -total])
    assert colours(axes) == list(LOOK.colours.others[:2])
    assert labels(figure.legends[0].texts) == ["regular (n = 1)", "frozen (n = 1)"]
    with pytest.raises(UsageError, match="no layer is like 'conv'; there are 0, 1"):
        figures.layers(groups, Look(layers="conv"))


def test_loss_and_what_the_parts_sum_to(tmp_path):
    residual = [1e-4, -2e-4, NAN, 3e-4]
    loss = np.array([3.0, 2, 1.5, 1, 0.5])
    run = make_run(
        tmp_path / "run.zarr",
        np.zeros((7, 4)),
        status=[1, 2, 3, 1],
        loss=loss,
        residual=residual,
        allocated=np.diff(loss) + residual,
    )
    curve = loss_curve(run)
    assert [stretch.tolist() for stretch in curve.stretches] == [[0, 1, 2], [3, 4]]
    np.testing.assert_allclose(curve.summed(curve.stretches[0]), [3, 2.0001, 1.4999])
    np.testing.assert_allclose(curve.summed(curve.stretches[1]), [1, 0.5003])  # anew after the gap
    top, bottom = figures.loss(curve, LOOK).axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), loss)
    for drawn, stretch in zip(top.lines[1:], curve.stretches, strict=True):
        np.testing.assert_allclose(drawn.get_xdata(), stretch)
        np.testing.assert_allclose(drawn.get_ydata(), curve.summed(stretch))
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), residual)
    assert [line.get_ydata()[0] for line in bottom.lines[1:]] == [-0.001, 0.001]


def test_distribution(tmp_path):
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
        np.testing.assert_allclose(density, expected / (values.size * np.diff(edges)), rtol=0.35)  # of some 100 each
        assert (density * np.diff(edges)).sum() == pytest.approx(0.495, abs=0.01)
    for line, sign, k, part in zip(
        axes.lines[:2], (-1, 1), (result.weibull_helped, result.weibull_hurt), (result.helped, result.hurt), strict=True
    ):
        scale = (part.counts @ part.values**k / part.n) ** (1 / k)
        x = sign * line.get_xdata()
        expected = part.n / result.both.n * k / scale * (x / scale) ** (k - 1) * np.exp(-((x / scale) ** k))
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    gaussian = axes.lines[-1]
    assert gaussian.get_label() == "Gaussian"
    assert gaussian.get_ydata().max() == pytest.approx(1 / (1e-3 * (2 * np.pi) ** 0.5), rel=0.02)
    assert axes.get_xlabel() == "LCA of a parameter in an iteration (nats); the largest 1 % lie beyond"


def test_the_distribution_of_nothing_is_refused(tmp_path):
    with pytest.raises(LCAError, match="there is no distribution to draw"):
        figures.distribution(tails(make_run(tmp_path / "run.zarr", np.zeros((7, 4)))), LOOK)


def test_trend(tmp_path):
    runs = [
        make_run(tmp_path / f"{i}.zarr", np.outer([1, 0, 0, 0, 0, 0, 0], [2.0 * i, 1]), training={"momentum": i})
        for i in (1, 2, 4)
    ]
    result = trend(runs, "momentum")
    left, right = figures.trend(result, Look(layers="0")).axes
    assert [line.get_ydata()[0] for line in left.lines[:3]] == pytest.approx([3, 5, 9])
    assert [text.get_text() for text in left.get_legend().texts] == ["1", "2", "4"]
    np.testing.assert_allclose(right.collections[0].get_offsets(), [[1, 3], [2, 5], [4, 9]])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [3, 9])
    assert right.lines[0].get_label() == "R² = 1.000"


def test_peaks_of_all_layers_have_another_colour(tmp_path):
    lca = np.zeros((7, 12))
    lca[0, [2, 5, 9]], lca[3, [2, 6, 9]] = -1, -1
    norms = np.ones((13, 4))
    run = make_run(tmp_path / "run.zarr", lca, gradient_norm=norms, motion_norm=norms[:12])
    (axes,) = figures.peaks(synchrony(run), LOOK).axes
    found = {}
    (only,) = figures.peaks(synchrony(run), Look(layers="1")).axes
    assert labels(only.get_yticklabels()) == ["1"]
    assert "in all 2 layers: 2" in only.get_title(loc="left")
    for line in axes.lines:
        for t, height in zip(line.get_xdata(), line.get_ydata(), strict=True):
            found[int(t), int(height)] = to_hex(line.get_color())
    assert found == {(2, 0): HURT, (9, 0): HURT, (5, 0): style.INK, (2, 1): HURT, (9, 1): HURT, (6, 1): style.INK}
    assert labels(axes.get_yticklabels()) == ["0", "1"]
    assert "in all 2 layers: 2, by chance" in axes.get_title(loc="left")


def test_frame_shows_each_tensor_as_a_matrix(run):
    figure = figures.frame(run, 1, LOOK)
    panels = {axes.get_title(): axes.images[0] for axes in figure.axes if axes.images}
    assert panels["0.weight"].get_array().tolist() == [[2, -1]]
    assert panels["1.weight"].get_array().tolist() == [[-1], [-1]]
    assert panels["1.bias"].get_array().tolist() == [[-0.5, -2]]
    low, high = panels["0.weight"].get_clim()
    assert low == -high == pytest.approx(-2, abs=0.1)
    assert to_hex(panels["0.weight"].get_cmap()(0.5)) == "#ffffff"
    assert figure._suptitle.get_text() == "a title, iteration 1"
    with pytest.raises(UsageError, match="iteration 4 is not allocated"):
        figures.frame(run, 4, LOOK)


def test_matrices():
    model = nn.Sequential(nn.Linear(64, 3), nn.Conv2d(2, 3, 2, bias=False), nn.Conv2d(2, 3, 1), nn.Linear(64, 2))
    tiled, bias, grid, pointwise, vector, dense, _ = matrices(ParameterTable.of(model))
    assert tiled.places.shape == (2 * 9 - 1, 2 * 9 - 1)  # two by two images of 8 × 8, a line between them
    assert tiled.places[:8, :8].ravel().tolist() == list(range(64))
    assert tiled.places[:8, 9:17].ravel().tolist() == list(range(64, 128))
    assert (tiled.places[8] == -1).all()
    assert (tiled.places[9:, 9:] == -1).all()  # there is no fourth
    assert bias.places.tolist() == [[192, 193, 194]]
    assert grid.places.tolist()[:2] == [[195, 196, -1, 199, 200], [197, 198, -1, 201, 202]]
    assert grid.places.shape == (8, 5)
    assert pointwise.places.shape == (3, 2)
    assert vector.places.shape == (1, 3)
    assert dense.places.shape == (2, 64)  # only the first layer may be images
    for matrix in (tiled, bias, grid, pointwise, vector, dense):
        there = matrix.places[matrix.places >= 0]
        assert len(set(there.tolist())) == len(there)


def test_neurons_are_rows_by_layer(run):
    result = neurons(run)
    figure = figures.neurons(result, LOOK)
    axes = figure.axes[0]
    picture = axes.images[0].get_array()
    np.testing.assert_allclose(picture.filled(NAN), result.lca)
    assert picture.mask[:, 3].all()
    assert labels(axes.get_yticklabels()) == ["0", "1"]
    assert axes.images[0].get_extent() == [-0.5, 3.5, 2.5, -0.5]
    binned = NeuronSums(run.parameters, result.iterations, max_cells=3 * 2)
    feed(run, run.allocation("train").lca, result.iterations.counted, [binned])
    means = figures.neurons(binned.result(), LOOK).axes[0].images[0].get_array()  # of two iterations, then of one
    np.testing.assert_allclose(means, np.stack([result.lca[:, :2].mean(1), result.lca[:, 2]], axis=1))
    shown = figures.neurons(result, Look(layers="1", iterations=(1, 3))).axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, result.lca[1:, 1:3])


def test_long_runs_are_averaged_into_pixels():
    values = np.array([[1.0, 3, NAN, NAN, 5]])
    np.testing.assert_allclose(_mean_over(values, 2, 1), [[2, NAN, 5]])


def test_curves(run):
    result = curves(run, ["best", "1.bias", "0.weight[0, 1]"])
    (axes,) = figures.curves(result, LOOK).axes
    totals = np.nansum(np.array(LCA)[:, :3], axis=1)
    order = np.argsort(totals, kind="stable")[:5].tolist()
    assert result.index == list(dict.fromkeys([*order, 5, 6, 1]))
    assert result.names[0] == "0.weight[0, 1]"
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == result.names
    for line, index in zip(lines, result.index, strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.cumsum(LCA[index]))  # NaN in the last, which is not finite


@pytest.mark.parametrize("wanted", ["fc9", "7", "0.weight[5]", "0.weight[0,2]", "0.weight[a]", "-1"])
def test_a_parameter_that_is_not_there_is_told(run, wanted):
    with pytest.raises(
        UsageError, match=r"an index from 0 to 6, a tensor, or .*there are 0.weight\[1, 2\], 0.bias\[1\]"
    ):
        curves(run, [wanted])


def test_too_many_curves_are_refused(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.zeros((1_102, 3)), model=nn.Linear(1_101, 1))
    with pytest.raises(UsageError, match="1,101 parameters were asked for; 1,000 curves are the most"):
        curves(run, ["weight"])


def test_a_point_without_neighbours_is_a_dot():
    axes = Figure().subplots()
    style.line(axes, np.arange(6), np.array([1, NAN, 2, 3, NAN, 4]))
    assert axes.lines[1].get_xdata().tolist() == [0, 5]
    assert axes.lines[1].get_marker() == "."


def test_names_are_shown_letter_for_letter(tmp_path):
    with LOOK.figure(3, 3) as figure:
        axes = figure.subplots()
        style.head(axes, r"a $\frac{1}$ b")
        axes.plot([0, 1], label=style.plain("_body $_{$"))
        legend = axes.legend()
    figures.save(figure, tmp_path / "figure.svg")
    assert [text.get_text().strip() for text in legend.texts] == [r"_body \$_{\$"]
    assert r"a $\frac{1}$ b" in (tmp_path / "figure.svg").read_text()


def test_paper_is_a_columns_size(run, tmp_path):
    figure = figures.helping(helping(run), Look(style="paper"))
    for _ in range(2):
        figures.save(figure, tmp_path / "figure.png", dpi=100)
        assert imread(tmp_path / "figure.png").shape[:2] == (242, 396)  # 0.55 of 4.4 × 7.2 inches


def test_parameters_have_names(run):
    assert [name_of(i, run.parameters) for i in (0, 1, 2, 4, 6)] == [
        "0.weight[0, 0]",
        "0.weight[0, 1]",
        "0.bias[0]",
        "1.weight[1, 0]",
        "1.bias[1]",
    ]
    assert curves(run, ["4"]).names == ["1.weight[1, 0]"]
    drawn = curves(run, ["random"], seed=3)
    assert len(drawn.names) == 5
    assert drawn.names == curves(run, ["random"], seed=3).names


def test_cumulative(run):
    add_allocation(run, "val", 2 * np.array(LCA), status=CONVERGED, attributes={"split": "val"})
    (axes,) = figures.cumulative({name: layers(run, name) for name in ("train", "val")}, LOOK).axes
    lines = axes.lines[:8:2]  # each followed by its dots
    of_train = layers(run).cumulative
    of_train[3] = NAN  # which is not finite
    np.testing.assert_allclose([line.get_ydata() for line in lines], [*of_train.T, *2 * of_train.T])
    assert [line.get_linestyle() for line in lines] == ["-", "-", "--", "--"]
    assert lines[0].get_color().tolist() == lines[2].get_color().tolist()


def test_oscillation(tmp_path):
    weights = np.cumsum(np.random.default_rng(0).normal(size=(7, 30)), axis=1)
    result = oscillation(make_run(tmp_path / "run.zarr", np.diff(weights), weights=weights), crossings=False)
    figure = figures.oscillation([result, result], LOOK)
    axes = figure.axes[0]
    np.testing.assert_allclose(heights(axes)[:3], result.iterations_per(result.turns))
    np.testing.assert_allclose(heights(axes)[3:], result.iterations_per(result.of_lca))
    assert labels(axes.get_xticklabels()) == ["all", "0", "1"]
    assert labels(figure.legends[0].texts) == ["weight turns", "LCA turns"]


def test_overfit(run):
    add_allocation(run, "val", np.array(LCA) / 2, status=CONVERGED, attributes={"split": "val"})
    result = overfit(run)
    top, bottom = figures.overfit([result], LOOK).axes
    gap = -layers(run).total / 2
    np.testing.assert_allclose(heights(top), gap)
    assert colours(top) == [HURT if value > 0 else HELP for value in gap]
    expected = np.where(np.isnan(result.gap), NAN, result.cumulative_gap)
    np.testing.assert_allclose([line.get_ydata() for line in bottom.lines[:4:2]], expected.T)
    assert top.get_ylabel() == "LCA on val less\nthat on train (nats)"


def test_prune_has_a_line_a_criterion_and_a_style_a_split():
    loss = {"train": np.arange(6.0).reshape(3, 2), "val": np.ones((3, 2))}
    accuracy = {split: values / 10 for split, values in loss.items()}
    result = Pruned(np.array([0, 0.5]), ["LCA", "magnitude", "random"], loss, accuracy, None)
    left, right = figures.prune([result], LOOK).axes
    np.testing.assert_allclose([line.get_ydata() for line in left.lines[:3]], loss["train"])
    np.testing.assert_allclose([line.get_ydata() for line in right.lines[:3]], 10 * loss["train"])
    assert left.lines[0].get_xdata().tolist() == [0, 50]
    assert [line.get_label() for line in left.lines[2:4]] == ["random, train", "LCA, val"]
    unknown = Pruned(result.pruned, result.criteria, loss, {"train": np.full((3, 2), NAN)}, None)
    assert len(figures.prune([unknown], LOOK).axes) == 1


def test_subset(run):
    run.allocation("train").note("examples", 100)
    for n in (10, 50):
        add_allocation(run, f"of-{n}", np.array(LCA) + 1 / n, status=CONVERGED, attributes={"examples": n})
    run = type(run)(run.path, run.group)
    result = subset(run)
    panels = figures.subset([result], LOOK).axes
    assert panels[0].lines[0].get_xdata().tolist() == [10, 50]
    found = list(result.agreements.values())
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), [a.correlation for a in found])
    np.testing.assert_allclose(panels[2].lines[0].get_ydata(), [100 * a.layer_error for a in found])


def test_error_has_a_colour_an_allocation(tmp_path):
    curve = loss_curve(make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, residual=[1e-4, -3e-4, 0, NAN]))
    top, bottom = figures.error({"train, simpson": curve, "first": curve}, LOOK).axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), [1e-4, 3e-4, NAN, NAN])
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), [1e-4, 2e-4, 2e-4, NAN])
    assert [line.get_label() for line in top.lines[:2]] == ["train, simpson", "first"]
    assert top.get_yscale() == bottom.get_yscale() == "log"


def test_colours_have_an_alternative():
    look = Look(colours=COLOURS["blue-orange"])
    assert look.colours.of([-1, 1]) == [look.colours.help, look.colours.hurt]
    assert {look.colours.help, look.colours.hurt}.isdisjoint({HELP, HURT})
    for each in COLOURS.values():
        assert to_hex(each.map(0.0)) == each.help
        assert to_hex(each.map(1.0)) == each.hurt
        assert to_hex(each.map(127)) == "#ffffff"


def test_a_scale_ends_at_the_99th_percentile_of_what_is_not_0():
    values = np.append(np.linspace(-1, 1, 1001), [NAN, 0.0, 50.0])
    norm = style.scale_of(values)
    assert norm.vmin == -norm.vmax == pytest.approx(-0.99, abs=0.01)
    assert style.scale_of(np.zeros(3)).vmax == 1


def test_long_names_are_turned():
    axes = Figure().subplots()
    style.name_layers(axes, [f"block{i}.conv1" for i in range(22)])
    assert axes.get_xticklabels()[0].get_rotation() == 60
    assert style.width_for(["layer"] * 22) > 8


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
@pytest.mark.parametrize("style", ["paper", "screen"])
def test_the_suffix_decides_the_format(tmp_path, run, suffix, magic, style):
    path = tmp_path / "new" / f"figure{suffix}"
    figures.save(figures.helping(helping(run), Look(style=style)), path)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["figure.bmp", "figure"])
def test_another_suffix_is_refused(tmp_path, run, name):
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf are known"):
        figures.save(figures.helping(helping(run), LOOK), tmp_path / name)


def test_a_style_is_for_the_figure_alone(run):
    from matplotlib import rcParams

    before = rcParams["font.size"]
    figure = figures.helping(helping(run), Look(style="paper"))
    assert figure.axes[0].yaxis.label.get_size() == 7
    assert rcParams["font.size"] == before
    with pytest.raises(UsageError, match="unknown style 'poster'; the known ones are paper, screen"):
        Look(style="poster")
