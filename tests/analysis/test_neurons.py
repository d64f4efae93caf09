"""The LCA of neurons: rows of the kernel with their bias, in bins of iterations."""

import itertools

import numpy as np
import pytest
from handmade import CONVERGED, LCA, NAN, make_run

from lca.analysis import Neurons, neurons
from lca.analysis._neurons import NeuronSums
from lca.analysis.tiles import feed


def test_neuron_is_a_kernel_row_with_its_bias(tmp_path):
    lca = np.where(np.isnan(LCA), 0, LCA) + np.arange(7)[:, None]
    result = neurons(make_run(tmp_path / "run.zarr", lca, status=CONVERGED))
    assert result.units.names == ["0[0]", "1[0]", "1[1]"]
    expected = np.stack([lca[:3].sum(0), lca[3] + lca[5], lca[4] + lca[6]])
    expected[:, 3] = NAN
    np.testing.assert_allclose(result.lca, expected)
    np.testing.assert_allclose(result.total, np.nansum(expected, axis=1))
    assert result.edges.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("length", [3, 10, 65, 130])
def test_iterations_are_summed_in_bins_to_save_memory(tmp_path, length):
    lca = np.random.default_rng(0).normal(size=(7, 130))
    status = np.ones(130)
    status[[5, 6, 7, 8, 9, 100]] = 2
    run = make_run(tmp_path / "run.zarr", lca, status=status)
    fine = neurons(run)
    sums = NeuronSums(run, run.allocation("train"), fine.iterations, max_cells=130 * 3 // length)
    feed(run, run.allocation("train").lca, fine.iterations.mask, [sums])
    coarse = sums.result()
    edges = [*range(0, 130, length), 130]
    assert coarse.edges.tolist() == edges
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        values = fine.lca[:, begin:end]
        expected = np.where(np.isnan(values).all(1), NAN, np.nansum(values, 1))
        np.testing.assert_allclose(coarse.lca[:, i], expected, rtol=1e-6)
    np.testing.assert_allclose(coarse.total, fine.total, rtol=1e-6)


def test_neurons_that_help_and_hurt_most_are_listed(tmp_path):
    lca = np.zeros((7, 2))
    lca[[0, 5, 6]] = [[-1, -1], [3, -1], [-5, 0]]
    answer = Neurons.tabulate([neurons(make_run(tmp_path / "run.zarr", lca))])
    overview, named = answer.tables
    assert list(named.rows) == ["1[1]", "0[0]", "1[0]"]
    assert named.columns["LCA (nats)"].values.tolist() == [[-5, -2, 2]]
    assert overview.columns["neurons"].values.tolist() == [[1, 2]]
    assert overview.columns["helping neurons %"].values.tolist() == [[100, 50]]
    assert overview.columns["lowest LCA (nats)"].values.tolist() == [[-2, -5]]
    assert overview.columns["highest LCA (nats)"].values.tolist() == [[-2, 2]]
