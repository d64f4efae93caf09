"""Peaks and their coincidence, by hand and compared with plain loops."""

from itertools import combinations

import numpy as np
import pytest

from lca.analysis.peaks import (
    Peaks,
    _draw_shifts,
    compute_p,
    count_pairs,
    draw_baseline,
    draw_pair_baseline,
    find_deepest_minima,
    find_synchronized,
)


def minima(values, n):
    """Find the deepest local minima of one series with a plain loop."""
    found = [t for t in range(1, len(values) - 1) if values[t] < values[t - 1] and values[t] < values[t + 1]]
    best = sorted(found, key=lambda t: (values[t], t))[:n]
    return best + [-1] * (n - len(best))


def test_minima_equal_those_found_by_hand():
    values = np.array([-9.0, -1, -5, -2, -7, -7, -1, -3, -2, -8])
    # −9 and −8 are at the ends, and −7, −7 is flat
    assert find_deepest_minima(values, 3).tolist() == [2, 7, -1]
    values[3] = np.nan  # the neighbor of −5
    assert find_deepest_minima(values, 3).tolist() == [7, -1, -1]


@pytest.mark.parametrize("stretch", [1, 2, 7, 64, 300])
def test_minima_do_not_depend_on_the_division_into_pieces(stretch):
    values = np.random.default_rng(0).normal(size=(300, 2, 3)).round(1)  # with ties
    values[50] = np.nan
    peaks = Peaks((2, 3), 20)
    for begin in range(0, 300, stretch):
        peaks.add(begin, values[begin : begin + stretch])
    expected = [[minima(values[:, i, j], 20) for j in range(3)] for i in range(2)]
    assert peaks.iterations.tolist() == expected
    assert find_deepest_minima(values).tolist() == expected


def test_synchronized_iterations_are_peaks_of_every_layer():
    assert find_synchronized(np.array([[3, 9, 5, -1], [5, 3, -1, -1], [7, 3, 5, 1]])) == [3, 5]
    assert find_synchronized(np.array([[3], [4]])) == []
    assert find_synchronized(np.array([[8, 2]])) == [2, 8]


def test_baseline_equals_count_after_shifting():
    rng = np.random.default_rng(1)
    peaks = np.array([[rng.choice(60, 20, replace=False) for _ in range(3)] for _ in range(4)])
    peaks[0, 0, -5:] = -1
    shifts = (-2, -1, 0, 1, 2)
    found = draw_baseline(peaks, shifts, 50, seed=3)
    draws = _draw_shifts(shifts, (50, 4, 3), seed=3)
    for r in range(50):
        moved = [[{int(t) + draws[r, c, i] for t in peaks[c, i] if t >= 0} for i in range(3)] for c in range(4)]
        assert found[r] == sum(len(set.intersection(*layers)) for layers in moved)


def share_by_hand(layers):
    """Count the peaks that two layers share, summed over all pairs, with a plain loop over sets."""
    return sum(len(a & b) for a, b in combinations(layers, 2))


def test_pairs_equal_count_by_hand():
    peaks = np.array([[3, 9, 5, -1], [5, 3, -1, -1], [7, 3, 5, 1], [8, -1, -1, -1]])
    assert count_pairs(peaks) == share_by_hand([{3, 9, 5}, {5, 3}, {7, 3, 5, 1}, {8}]) == 6
    assert count_pairs(peaks[:1]) == 0


def test_pair_baseline_equals_count_after_shifting():
    rng = np.random.default_rng(1)
    peaks = np.array([[rng.choice(60, 20, replace=False) for _ in range(5)] for _ in range(3)])
    peaks[0, 0, -5:] = -1
    shifts = (-2, -1, 1, 3)
    found = draw_pair_baseline(peaks, shifts, 50, seed=3)
    draws = _draw_shifts(shifts, (50, 3, 5), seed=3)
    for r in range(50):
        moved = [[{int(t) + draws[r, c, i] for t in peaks[c, i] if t >= 0} for i in range(5)] for c in range(3)]
        assert found[r] == sum(map(share_by_hand, moved))


def test_both_counts_are_equal_for_two_layers():
    rng = np.random.default_rng(2)
    peaks = np.array([[rng.choice(50, 20, replace=False) for _ in range(2)] for _ in range(3)])
    assert [count_pairs(of_class) for of_class in peaks] == [len(find_synchronized(of_class)) for of_class in peaks]
    shifts = (-2, -1, 0, 1, 2)
    np.testing.assert_array_equal(draw_pair_baseline(peaks, shifts, 99, 0), draw_baseline(peaks, shifts, 99, 0))


def draw_p_values(n, rng, common=0):
    """Return p-values of the pair count for n sets of 18 series that share the fraction `common` of their variance."""
    values = np.sqrt(1 - common) * rng.normal(size=(300, n, 18)) + np.sqrt(common) * rng.normal(size=(300, n, 1))
    peaks = find_deepest_minima(values)
    shifts = (-2, -1, 0, 1, 2)
    baselines = [draw_pair_baseline(each[None], shifts, 99, seed) for seed, each in enumerate(peaks)]
    return np.array([compute_p(count_pairs(each), b) for each, b in zip(peaks, baselines, strict=True)])


def test_independent_layers_have_uniform_p_values():
    p = draw_p_values(200, np.random.default_rng(3))
    assert p.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * 200))
    for level in (0.05, 0.25, 0.75):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 200))


def test_synchrony_of_many_layers_is_found_in_pairs_although_no_peak_is_common_to_all():
    rng = np.random.default_rng(4)
    assert (draw_p_values(10, rng, common=0.1) == 1 / 100).all()
    values = np.sqrt(0.9) * rng.normal(size=(300, 18)) + np.sqrt(0.1) * rng.normal(size=(300, 1))
    assert find_synchronized(find_deepest_minima(values)) == []


def test_layers_are_never_all_shifted_by_the_same_amount():
    """Equal shifts would reproduce the observed count, in a third of the repeats with two layers and three shifts."""
    draws = _draw_shifts((-1, 0, 1), (3_000, 1, 2), seed=0)
    pairs, counts = np.unique(draws[:, 0], axis=0, return_counts=True)
    assert pairs.tolist() == [[-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0]]
    assert np.abs(counts - 500).max() < 5 * 500**0.5
    same = np.arange(20) * 10
    assert (draw_baseline(np.array([[same, same]]), (-2, -1, 0, 1, 2), 1_000, seed=0) == 0).all()


def test_single_layer_is_always_synchronized():
    assert (draw_baseline(np.array([[[4, 8, -1]]]), (-1, 0, 1), 5, 0) == 2).all()


def test_p_value_is_never_0():
    assert compute_p(5, np.array([1, 2, 5, 7, 0])) == pytest.approx(3 / 6)
    assert compute_p(99, np.zeros(1000)) == pytest.approx(1 / 1001)
