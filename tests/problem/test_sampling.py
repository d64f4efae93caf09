from itertools import combinations, product

import numpy as np
import pytest

from lca.problem.sampling import draw_stratified, estimate_standard_error


def test_subset_is_stratified_by_class():
    labels = np.repeat([7, 3, 9], [50, 30, 20])
    index = draw_stratified(labels, 10, seed=0)
    assert [int((labels[index] == label).sum()) for label in (7, 3, 9)] == [5, 3, 2]
    assert (np.diff(index) > 0).all()
    assert np.array_equal(index, draw_stratified(labels, 10, seed=0))
    assert not np.array_equal(index, draw_stratified(labels, 10, seed=1))


def test_remainders_go_to_the_largest_fractions():
    labels = np.repeat([0, 1, 2], [46, 30, 24])  # shares of 7: 3.22, 2.1, 1.68
    index = draw_stratified(labels, 7, seed=3)
    assert [int((labels[index] == c).sum()) for c in range(3)] == [3, 2, 2]
    assert len(draw_stratified(labels, 100, seed=0)) == 100


def test_every_example_is_equally_likely():
    counts = sum(np.bincount(draw_stratified(np.repeat([0, 1], 4), 4, seed), minlength=8) for seed in range(400))
    assert counts.sum() == 1600
    assert (abs(counts - 200) < 50).all()  # five standard deviations of a binomial


def test_standard_error_is_unbiased_over_all_samples():
    """Over all stratified samples of a population, the mean squared standard error is the variance of the mean."""
    generator = np.random.default_rng(0)
    strata = [generator.normal(0, 1, 4), generator.normal(5, 3, 6)]
    squared, means = [], []
    for a, b in product(combinations(range(4), 2), combinations(range(6), 3)):
        losses = np.concatenate([strata[0][list(a)], strata[1][list(b)]])
        labels = np.repeat([0, 1], [2, 3])
        squared.append(estimate_standard_error(losses, np.ones(5), labels, {0: 4, 1: 6}) ** 2)
        means.append(losses.mean())
    assert np.mean(squared) == pytest.approx(np.var(means), rel=1e-12)


def test_standard_error_of_the_whole_split_is_zero():
    labels = np.zeros(3, int)
    assert estimate_standard_error(np.array([1.0, 2.0, 5.0]), np.ones(3), labels, {0: 3}) == 0
