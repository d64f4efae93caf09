"""The distribution of LCA, compared with closed forms and scipy."""

import numpy as np
import pytest
from handmade import columns_of, make_run
from scipy import stats
from torch import nn

from lca.analysis import Tails, tails
from lca.analysis._tails import DEVIATIONS, TOP, choose_sample_step
from lca.analysis.magnitudes import fit_weibull_shape


def run_of(path, values, T=50, **options):
    """Make a run whose LCA consists of the first K × T values."""
    K = len(values) // T
    return make_run(path, np.asarray(values)[: K * T].reshape(K, T), model=nn.Linear(K - 1, 1), **options)


@pytest.fixture(scope="module")
def heavy():
    rng = np.random.default_rng(0)
    values = stats.weibull_min.rvs(0.4, scale=1e-6, size=200_000, random_state=rng) * rng.choice([-1, 1], 200_000)
    values[::7] = 0
    values[::14] = -0.0
    return values.astype(np.float32)


def test_statistics_equal_scipy_and_sorting(tmp_path, heavy):
    result = tails(run_of(tmp_path / "run.zarr", heavy))
    moved = heavy[heavy != 0].astype(np.float64)
    assert result.n_zero == (heavy == 0).sum()
    assert (result.helped.n, result.hurt.n, result.both.n) == ((moved < 0).sum(), (moved > 0).sum(), len(moved))
    assert result.kurtosis == pytest.approx(stats.kurtosis(moved), rel=2e-3)  # large values are in wide bins
    assert result.deviation == pytest.approx(moved.std(), rel=1e-4)
    for part, values in (("helped", -moved[moved < 0]), ("hurt", moved[moved > 0]), ("both", np.abs(moved))):
        magnitudes = getattr(result, part)
        ordered = np.sort(values)[::-1]
        assert magnitudes.total == pytest.approx(values.sum(), rel=1e-4)
        for top in TOP:
            expected = ordered[: round(top * len(values))].sum() / values.sum()
            assert magnitudes.share_of_top(top) == pytest.approx(expected, rel=1e-3)
        n = len(values)
        gini = 2 * (np.arange(1, n + 1) @ ordered[::-1]) / (n * values.sum()) - (n + 1) / n
        assert magnitudes.gini == pytest.approx(gini, rel=1e-4)
        for k in DEVIATIONS:
            beyond = values[values > k * moved.std()].sum() / values.sum()
            tail = stats.norm.expect(lambda x: x, lb=k) / stats.norm.expect(lambda x: x, lb=0)
            assert result.beyond(magnitudes, k) == pytest.approx(beyond / tail, rel=5e-3)


def test_gaussian_values_have_gaussian_statistics(tmp_path):
    values = np.random.default_rng(1).normal(0, 1e-5, 400_000)
    result = tails(run_of(tmp_path / "run.zarr", values))
    assert result.kurtosis == pytest.approx(0, abs=0.03)
    for k in DEVIATIONS:
        for part in (result.helped, result.hurt, result.both):
            assert result.beyond(part, k) == pytest.approx(1, abs=0.01 if k == 1 else 0.03 if k == 2 else 0.15)


def test_weibull_fit_uses_every_nth_value(tmp_path, monkeypatch, heavy):
    monkeypatch.setattr("lca.store.run_writer.CHUNK_PARAMETERS", 300)
    steps = []
    for n_sample in (2**18, 1_000):
        monkeypatch.setattr("lca.analysis._tails.N_SAMPLE", n_sample)
        T = 150
        status = np.ones(T)
        status[20:40] = 3
        result = tails(run_of(tmp_path / f"{n_sample}.zarr", heavy, T, status=status))
        step = result.sample_step
        used = heavy[: len(heavy) // T * T].reshape(-1, T)
        flat = np.arange(0, used.size, step)
        sample = used.ravel()[flat][status[flat % T] == 1].astype(np.float64)
        for fit, cut in ((result.weibull, 0), (result.weibull_above, result.weibull_above.cut)):
            below, above = np.sort(-sample[sample < -cut]), np.sort(sample[sample > cut])
            assert (fit.cut, fit.n_helped, fit.n_hurt) == (cut, len(below), len(above))
            assert fit.helped == pytest.approx(fit_weibull_shape(below, cut), rel=1e-9)
            assert fit.hurt == pytest.approx(fit_weibull_shape(above, cut), rel=1e-9)
        steps.append(step)
    assert steps == [1, 199]  # 199,950 values / 1,000, without a common divisor with T


def test_weibull_shape_is_stated_with_its_cut(tmp_path, heavy):
    """The rounding floor is the machine epsilon times Σ|LCA| of an average iteration."""
    result = tails(run_of(tmp_path / "run.zarr", heavy))
    floor = np.finfo("float32").eps * np.abs(heavy.astype(np.float64)).sum() / 50
    assert result.weibull_above.cut == pytest.approx(floor, rel=1e-4)
    assert 0 < result.weibull_above.n_helped < result.weibull.n_helped
    columns = columns_of(Tails.tabulate([result, result]), "Weibull shape k")
    for row, fit in (("all except for 0", result.weibull), ("above the rounding floor", result.weibull_above)):
        assert columns["cut (nats)"][row]["mean"] == fit.cut
        assert columns["k, helping"][row]["values"] == [fit.helped] * 2
        assert columns["k, hurting"][row]["values"] == [fit.hurt] * 2
    # These values do follow a Weibull distribution, so its shape does not depend on the cut.
    assert result.weibull.helped == pytest.approx(0.4, rel=0.02)
    assert result.weibull_above.helped == pytest.approx(0.4, rel=0.02)


def test_tails_within_iterations_equal_a_plain_loop(tmp_path, heavy):
    T = 40
    status = np.ones(T)
    status[7:9] = 3
    values = heavy[: len(heavy) // T * T].reshape(-1, T) * 10.0 ** np.linspace(0, -4, T)
    values[:, 20] = -np.abs(values[:, 20])  # no hurting values
    result = tails(make_run(tmp_path / "run.zarr", values, model=nn.Linear(len(values) - 1, 1), status=status))
    for t in range(T):
        found = {part: result.beyond_by_iteration[part][t] for part in ("helped", "hurt", "both")}
        if status[t] == 3:
            assert all(np.isnan(ratios).all() for ratios in found.values())
            continue
        moved = values[:, t][values[:, t] != 0].astype(np.float64)
        for part, x in (("helped", -moved[moved < 0]), ("hurt", moved[moved > 0]), ("both", np.abs(moved))):
            for k, ratio in zip(DEVIATIONS, found[part], strict=True):
                if x.size:
                    expected = x[x > k * moved.std()].sum() / x.sum() / np.exp(-(k**2) / 2)
                    assert ratio == pytest.approx(expected, rel=0.06)  # the width of a bin
                else:
                    assert np.isnan(ratio)
    shown = columns_of(result, "share of Σ|LCA|, relative to a Gaussian")["both"]
    for i, k in enumerate(DEVIATIONS):
        expected = np.nanmean(result.beyond_by_iteration["both"][:, i])
        assert shown[f"{k} sd of the same iteration"]["mean"] == pytest.approx(expected)
        assert shown[f"{k} sd of all iterations"]["mean"] == result.beyond(result.both, k)


def test_gaussian_iterations_of_different_scale_have_heavy_tails_only_if_pooled(tmp_path):
    values = np.random.default_rng(1).normal(0, 1, (40_000, 10)) * 10.0 ** np.linspace(-5, -7, 10)
    result = tails(make_run(tmp_path / "run.zarr", values, model=nn.Linear(39_999, 1)))
    assert result.beyond(result.both, 2) > 2
    for part in ("helped", "hurt", "both"):
        mean = result.beyond_by_iteration[part].mean(axis=0)
        assert (np.abs(mean - 1) < [0.01, 0.04, 0.2]).all()  # four standard errors of 400,000 values


def test_sample_step_reaches_every_iteration():
    for n, T in ((10**9, 880), (10**6, 64), (50, 7)):
        step = choose_sample_step(n, T)
        assert set(np.arange(0, min(n, step * T), step) % T) == set(range(T)) or step == 1


def test_note_states_the_sample_size(tmp_path, heavy):
    result = tails(run_of(tmp_path / "run.zarr", heavy))
    answer = Tails.tabulate([result, result])
    assert answer.notes[1].startswith(
        f"Weibull shape k: fitted by maximum likelihood to one of every 1 values, {result.weibull.n_helped:,} below 0"
    )
    percent = answer.tables[0].columns["both"].values[0]
    assert percent[0] == 100
    assert percent[-1] == result.both.gini


def test_run_without_hurting_values_has_no_hurting_statistics(tmp_path):
    result = tails(make_run(tmp_path / "run.zarr", -np.arange(1, 71).reshape(7, 10)))
    assert result.hurt.n == 0
    assert np.isnan([result.hurt.gini, result.hurt.share_of_top(0.1), result.weibull.hurt]).all()
    assert columns_of(Tails.tabulate([result]))["hurting"]["Gini coefficient"]["mean"] is None


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_constant_values_have_no_kurtosis(tmp_path, value):
    result = tails(make_run(tmp_path / "run.zarr", np.full((7, 10), value)))
    assert np.isnan(result.kurtosis)
    assert (result.n_zero, result.helped.n) == ((0, 70) if value else (70, 0))
    assert columns_of(result, "shape of the distribution")["equal to 0 %"]["LCA"]["mean"] == (0 if value else 100)


def test_json_contains_a_histogram(tmp_path, heavy):
    result = tails(run_of(tmp_path / "run.zarr", heavy))
    written = Tails.tabulate([result]).to_json()
    edges = np.array(written["edges"])
    assert (len(edges), np.all(np.diff(edges) > 0)) == (101, True)
    assert sum(written["helped"][0]) == pytest.approx(result.helped.n)
    expected, _ = np.histogram(-heavy[heavy < 0].astype(float), edges)
    assert np.abs(expected - written["helped"][0]).sum() < 0.01 * result.helped.n
