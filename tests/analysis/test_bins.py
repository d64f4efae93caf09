"""Bins of iterations, compared with plain loops."""

import itertools

import numpy as np
import pytest

from lca.analysis.bins import count_in_bins, find_centers, make_edges, make_edges_every, mean_in_bins, thin


@pytest.mark.parametrize(("n", "at_most"), [(1, 1), (10, 3), (10, 10), (10, 99), (300, 7)])
def test_bins_cover_all_items_and_respect_the_maximum(n, at_most):
    edges = make_edges(n, at_most)
    assert (edges[0], edges[-1]) == (0, n)
    assert len(edges) - 1 <= at_most
    lengths = np.diff(edges)
    assert (lengths[:-1] == lengths[0]).all()
    assert 0 < lengths[-1] <= lengths[0]


def test_last_bin_of_fixed_length_may_be_shorter():
    assert make_edges_every(10, 4).tolist() == [0, 4, 8, 10]
    assert find_centers(np.array([0, 4, 8, 10])).tolist() == [1.5, 5.5, 8.5]
    assert count_in_bins(np.array([1, 0, 1, 1, 0], bool), np.array([0, 2, 3, 5])).tolist() == [1, 1, 1]


@pytest.mark.parametrize("axis", [0, 1])
def test_means_in_bins_ignore_nan(axis):
    values = np.random.default_rng(0).normal(size=(12, 12))
    values[np.random.default_rng(1).random((12, 12)) < 0.4] = np.nan
    values[:4, :4] = np.nan
    edges = np.array([0, 3, 4, 9, 12])
    found = np.moveaxis(mean_in_bins(values, edges, axis), axis, 0)
    along = np.moveaxis(values, axis, 0)
    for row, (begin, end) in zip(found, itertools.pairwise(edges), strict=True):
        for j in range(12):
            part = along[begin:end, j]
            part = part[~np.isnan(part)]
            assert row[j] == pytest.approx(part.mean()) if len(part) else np.isnan(row[j])


def test_thin_keeps_first_and_last():
    assert thin(5, 99).tolist() == [0, 1, 2, 3, 4]
    found = thin(1_000, 7)
    assert (found[0], found[-1], len(found)) == (0, 999, 7)
