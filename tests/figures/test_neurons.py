"""The LCA of neurons over time."""

from importlib import import_module

import numpy as np
from artists import LOOK, read_labels
from handmade import NAN, make_run

from lca import figures
from lca.analysis import neurons
from lca.analysis._neurons import NeuronSums
from lca.analysis.tiles import feed
from lca.figures.style import Look


def test_neurons_are_rows_grouped_by_layer(run):
    result = neurons(run)
    figure = figures.neurons(result, LOOK)
    axes = figure.axes[0]
    picture = axes.images[0].get_array()
    np.testing.assert_allclose(picture.filled(NAN), result.lca)
    assert picture.mask[:, 3].all()
    assert read_labels(axes.get_yticklabels()) == ["0", "1"]
    assert axes.images[0].get_extent() == [-0.5, 3.5, 2.5, -0.5]
    binned = NeuronSums(run, run.allocation("train"), result.iterations, max_cells=3 * 2)
    feed(run, run.allocation("train").lca, result.iterations.mask, [binned])
    means = (
        figures.neurons(binned.result(), LOOK).axes[0].images[0].get_array()
    )  # the means over two iterations and over one
    np.testing.assert_allclose(means, np.stack([result.lca[:, :2].mean(1), result.lca[:, 2]], axis=1))
    shown = figures.neurons(result, Look(layers="1", iterations=(1, 3))).axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, result.lca[1:, 1:3])


def test_long_runs_are_averaged_without_missing_iterations(tmp_path, monkeypatch):
    lca = np.outer(np.arange(1, 8), [1.0, 3, NAN, NAN, 5])
    run = make_run(tmp_path / "run.zarr", lca, status=[1, 1, 3, 3, 1])
    monkeypatch.setattr(import_module("lca.figures._neurons"), "MAX_COLUMNS", 3)
    picture = figures.neurons(run).axes[0].images[0].get_array()
    of_neuron = neurons(run).lca[:, [0]]
    np.testing.assert_allclose(picture.filled(NAN), of_neuron * [[2, NAN, 5]])
    monkeypatch.setattr(import_module("lca.figures._neurons"), "MAX_NEURONS", 2)
    picture = figures.neurons(run).axes[0].images[0].get_array()
    np.testing.assert_allclose(picture[:, 0], [2 * of_neuron[:2].mean(), 2 * of_neuron[2, 0]])
