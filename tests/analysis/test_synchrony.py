"""Synchronized peaks, by hand and compared with a plain simulation."""

from dataclasses import replace

import numpy as np
import pytest
from handmade import columns_of, make_run
from torch import nn

from lca.analysis import Synchrony, synchrony
from lca.errors import LCAError, UsageError


def make_peaks(path, **options):
    """Make a run whose two layers peak together in total and in class 0, and two iterations apart in class 1."""
    T, peaks = 200, np.arange(10, 160, 7)
    depth = np.linspace(2, 3, len(peaks))

    def series(shift=0):
        values = np.zeros(T)
        values[peaks + shift] = -depth
        return values

    lca = np.zeros((7, T))
    lca[0], lca[3] = series(), series()
    class_lca = np.zeros((T, 2, 4))
    class_lca[:, 0, 0], class_lca[:, 0, 2] = series(), series()
    class_lca[:, 1, 1], class_lca[:, 1, 3] = series(), series(2)
    norms = np.ones((T + 1, 4))
    norms[:T, 0] -= series()  # negated, because the peaks of a norm are its maxima
    norms[:T, 2] -= series(3)
    motion = np.ones((T, 4))
    motion[:, 1] -= series()
    motion[:, 3] -= series()
    arrays = {"gradient_norm": norms, "motion_norm": motion, "class_lca": class_lca, **options}
    return make_run(path, lca, **arrays), peaks


def test_peaks_and_baseline_equal_counts_by_hand(tmp_path):
    run, peaks = make_peaks(tmp_path / "run.zarr")
    deepest = peaks[-20:]
    result = synchrony(run, by_class=True)
    assert set(result.series) == {"LCA", "gradient norm", "motion", "LCA by class"}
    assert result.series["LCA"].synchronized == [deepest.tolist()]
    assert result.series["LCA"].peaks.tolist() == [[deepest[::-1].tolist()] * 2]
    assert result.series["gradient norm"].n == 0
    assert result.series["motion"].synchronized == [deepest.tolist()]
    assert result.series["LCA by class"].synchronized == [deepest.tolist(), []]
    assert (result.layers, result.classes) == (["0", "1"], ["0", "1"])
    # The shifts of the two layers always differ, and then no peak coincides.
    assert set(result.series["LCA"].baseline) == {0}
    # In class 1, the layers coincide if their shifts differ by two: in 3 of the 20 pairs of different shifts.
    assert result.series["LCA by class"].baseline.mean() == pytest.approx(20 * 3 / 20, rel=0.25)


def test_shift_0_can_be_excluded(tmp_path):
    run, _ = make_peaks(tmp_path / "run.zarr")
    result = synchrony(run, shifts=(-2, -1, 1, 2), repeats=400, seed=5)
    assert len(result.series["LCA"].baseline) == 400
    # In class 1, the layers coincide if their shifts differ by two: in 1 of the 12 pairs of different shifts.
    with_classes = synchrony(run, shifts=(-2, -1, 1, 2), repeats=400, seed=5, by_class=True)
    assert np.mean(with_classes.series["LCA by class"].baseline == 20) == pytest.approx(1 / 12, abs=0.04)


def test_table_combines_runs(tmp_path):
    results = [synchrony(make_peaks(tmp_path / f"{i}.zarr")[0], by_class=True, seed=0) for i in range(2)]
    answer = Synchrony.tabulate(results)
    rows = columns_of(answer)
    # Each run has 20 peaks by chance in 3 of 20 repeats. The runs are independent, although their random shifts are the
    # same.
    baseline = results[0].series["LCA by class"].baseline
    chance = sum(np.random.default_rng(i).permutation(baseline) for i in range(2))
    assert np.mean(chance == 40) == pytest.approx((3 / 20) ** 2, abs=0.015)
    assert rows["synchronized"]["LCA"]["values"] == [20, 20]
    assert rows["expected by chance"]["LCA"]["values"] == [result.series["LCA"].baseline.mean() for result in results]
    p = (1 + (chance >= 40).sum()) / 1001
    assert rows["p (one-sided)"]["LCA by class"]["mean"] == pytest.approx(p)
    assert rows["synchronized"]["LCA by class, per class"]["values"] == [10, 10]
    peaks = answer.to_json()["peaks"][0]
    assert peaks["LCA by class"]["synchronized"][1] == []
    assert (peaks["LCA"]["shared by pairs"], peaks["LCA by class"]["shared by pairs"]) == (20, 20)


def test_peaks_shared_by_pairs_of_layers_are_tabulated(tmp_path):
    """Of three layers, the first two share all of their peaks, and the third peaks two iterations later."""
    run, _ = make_peaks(tmp_path / "two.zarr")
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2), nn.Linear(1, 1))
    lca = run.allocation("train").lca[:]
    lca = np.concatenate([lca, np.roll(lca[:1], 2, axis=1), np.zeros((1, 200))])
    norms = np.ones((201, 6))
    run = make_run(tmp_path / "run.zarr", lca, model=model, gradient_norm=norms, motion_norm=norms[:200])
    result = synchrony(run)
    series = result.series["LCA"]
    assert (series.n, series.n_in_pairs, series.n_pairs) == (0, 20, 3)
    cells = columns_of(result, "peaks that two layers share, averaged over all pairs of layers")
    assert cells["shared"]["LCA"]["mean"] == pytest.approx(20 / 3)
    assert cells["expected by chance"]["LCA"]["mean"] == pytest.approx(series.pair_baseline.mean() / 3)
    assert cells["p (one-sided)"]["LCA"]["mean"] == pytest.approx((1 + (series.pair_baseline >= 20).sum()) / 1001)


def test_single_layer_has_no_pairs(tmp_path):
    lca = np.random.default_rng(0).normal(size=(3, 200))
    arrays = {"gradient_norm": np.ones((201, 2)), "motion_norm": np.ones((200, 2))}
    result = synchrony(make_run(tmp_path / "run.zarr", lca, model=nn.Linear(2, 1), **arrays))
    assert [table.title for table in result.to_answer().tables] == [""]


def test_smallest_p_value_is_shown_as_an_upper_bound(tmp_path):
    run, _ = make_peaks(tmp_path / "run.zarr")
    result = synchrony(run)
    never = {what: replace(series, baseline=np.zeros(1000)) for what, series in result.series.items()}
    lines = str(replace(result, series=never)).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[2:5]] == ["< 1/1001", "1", "< 1/1001"]


def test_excluded_iterations_are_not_peaks(tmp_path):
    run, peaks = make_peaks(tmp_path / "run.zarr")
    lost = int(peaks[-1])
    status = np.ones(200)
    status[lost + 1] = 3
    run, _ = make_peaks(tmp_path / "gaps.zarr", status=status)
    result = synchrony(run)
    for what in ("LCA", "motion"):
        assert lost not in result.series[what].peaks


def test_missing_requirements_are_reported(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.zeros((7, 9)), status=[1, 1, 0] * 3)
    with pytest.raises(LCAError, match="does not have three consecutive usable iterations"):
        synchrony(run)
    lca = np.tile([0, -1, 0], (7, 3))
    run = make_run(tmp_path / "other.zarr", lca, motion_norm=np.ones((9, 4)), gradient_norm=np.ones((10, 4)))
    with pytest.raises(
        LCAError, match=r"no class_lca. Replace it with .*other.zarr', problem, by_class=True, overwrite=True\)"
    ):
        synchrony(run, by_class=True)
    with pytest.raises(UsageError, match="expected at least two repeats and one shift, found 1 and 5"):
        synchrony(run, repeats=1)


def test_frozen_layer_is_excluded_and_listed(tmp_path):
    run, peaks = make_peaks(tmp_path / "run.zarr")
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2), nn.Linear(1, 1))
    lca = np.concatenate([run.allocation("train").lca[:], np.zeros((2, 200))])
    norms = np.ones((201, 6))
    frozen = make_run(tmp_path / "frozen.zarr", lca, model=model, gradient_norm=norms, motion_norm=norms[:200])
    result = synchrony(frozen)
    assert (result.layers, result.still) == (["0", "1"], ["2"])
    assert result.series["LCA"].synchronized == [peaks[-20:].tolist()]
    assert "Layers excluded because they have no peak: 2." in str(result)


def test_small_p_value_is_not_shown_as_0(tmp_path):
    run, _ = make_peaks(tmp_path / "run.zarr")
    result = synchrony(run)
    rare = {what: replace(s, baseline=np.arange(10_000) // 9_997 * 40) for what, s in result.series.items()}
    assert "0.0004" in str(replace(result, series=rare)).splitlines()[2]
