"""Answers from two allocations or more: of another split, over a subset, by another rule, of other runs."""

import numpy as np
import pytest
from handmade import NAN, add_allocation, columns_of, make_run
from scipy import stats

from lca.analysis import compare, error, overfit, subset, trend
from lca.analysis._compare import report as report_compare
from lca.analysis._error import report as report_error
from lca.analysis._overfit import report as report_overfit
from lca.analysis._subset import report as report_subset
from lca.analysis._trend import option_of
from lca.analysis._trend import report as report_trend
from lca.errors import LCAError, UsageError
from lca.store.audit import Audit
from lca.text import describe_report


def random_lca(seed, T=10, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (7, T)).astype(np.float32)


# ── overfit


def test_overfit(tmp_path):
    train, val = np.zeros((2, 7, 4))
    train[0] = [-4, -2, -1, -1]  # layer 0 learns by heart from the third iteration on
    val[0] = [-4, -2, 1, 2]
    train[3] = [-1, 0, 0, 0]
    val[3] = [-1, -1, 0, 0]
    train[6], val[6] = [-1, -1, -1, NAN], [0, 0, 0, -1]
    run = make_run(tmp_path / "run.zarr", train, status=[1, 1, 1, 3])
    add_allocation(run, "val", val, attributes={"split": "val"})
    result = overfit(run)
    assert result.layers == ["0", "1"]
    assert result.iterations.counted.tolist() == [True, True, True, False]
    np.testing.assert_allclose(result.train, [[-4, -2], [-2, -1], [-1, -1], [NAN, NAN]])
    np.testing.assert_allclose(result.held_out, [[-4, -1], [-2, -1], [1, 0], [NAN, NAN]])
    np.testing.assert_allclose(result.cumulative_gap, [[0, 1], [0, 1], [2, 2], [2, 2]])
    assert result.best_iterate.tolist() == [2, 2]
    assert result.neurons == ["0[0]", "1[0]", "1[1]"]
    np.testing.assert_allclose(result.neuron_train, [-7, -1, -3])
    np.testing.assert_allclose(result.neuron_held_out, [-5, -2, 0])
    told = report_overfit([result], ["run.zarr"])
    columns = columns_of(told)
    assert [columns["gap (nats)"][row]["mean"] for row in ("0", "1", "sum")] == [2, 2, 4]
    assert columns["gap %"]["1"]["mean"] == pytest.approx(50)
    assert list(told.tables[-1].rows) == ["1[1]", "0[0]", "1[0]"]
    assert "left out: 1 not finite" in describe_report(told)


def test_overfit_over_runs_has_a_paired_test(tmp_path):
    runs = [make_run(tmp_path / f"{i}.zarr", random_lca(i, shift=-1)) for i in range(4)]
    for i, run in enumerate(runs):
        add_allocation(run, "val", random_lca(10 + i), attributes={"split": "val"}, keep=False)
    results = [overfit(run) for run in runs]
    assert results[0].neurons is None
    columns = columns_of(report_overfit(results, "abcd"))
    for row, rows in (("0", slice(0, 3)), ("1", slice(3, 7))):
        train, val = ([random_lca(begin + i, shift=s)[rows].sum() for i in range(4)] for begin, s in ((0, -1), (10, 0)))
        assert columns["p (paired t-test)"][row]["mean"] == pytest.approx(stats.ttest_rel(train, val).pvalue, rel=1e-4)


def test_overfit_needs_two_allocations(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0))
    with pytest.raises(LCAError, match=r"Make it with `lca allocate .*run.zarr --split val`"):
        overfit(run)
    with pytest.raises(UsageError, match="compared with itself"):
        overfit(run, "train", "train")
    add_allocation(run, "val", random_lca(1), status=[0] * 9 + [1])
    add_allocation(run, "other", random_lca(1), status=[1] + [0] * 9)
    with pytest.raises(LCAError, match="no iteration of .* counts in both val and other"):
        overfit(run, "val", "other")


def test_overfit_compares_runs_on_the_same_splits(tmp_path):
    runs = [make_run(tmp_path / f"{i}.zarr", random_lca(i)) for i in range(2)]
    for run, split in zip(runs, ("val", "test"), strict=True):
        add_allocation(run, split, random_lca(3), attributes={"split": split})
    with pytest.raises(LCAError, match="not allocated on the same two splits"):
        report_overfit([overfit(runs[0]), overfit(runs[1], against="test")], "ab")


# ── compare


def test_compare(tmp_path):
    runs = []
    for i in range(5):
        loss = np.linspace(2, i / 10, 11)
        runs.append(make_run(tmp_path / f"{i}.zarr", random_lca(i, shift=-i), loss=loss))
        add_allocation(runs[-1], "val", random_lca(i), loss=loss + 1, attributes={"split": "val"})
    a, b = runs[:2], runs[2:]
    result = compare(a, b)
    assert result.rows == ["0", "1", "sum", "final loss, train", "final loss, val"]
    totals = np.array([random_lca(i, shift=-i)[:3].sum() for i in range(5)])
    np.testing.assert_allclose(result.first[:, 0], totals[:2], rtol=1e-5)
    np.testing.assert_allclose(result.difference[0], totals[2:].mean() - totals[:2].mean(), rtol=1e-5)
    np.testing.assert_allclose(result.p[0], stats.ttest_ind(totals[:2], totals[2:], equal_var=False).pvalue, rtol=1e-4)
    np.testing.assert_allclose(result.difference[-2:], [0.3 - 0.05] * 2)
    text = describe_report(report_compare(result))
    assert "A, n = 2 (nats)" in text
    assert "B, n = 3 (nats)" in text
    assert "no test" in describe_report(report_compare(compare(a[:1], b)))


def test_only_losses_that_all_runs_have_are_compared(tmp_path):
    runs = [make_run(tmp_path / f"{i}.zarr", random_lca(i)) for i in range(2)]
    add_allocation(runs[0], "val", random_lca(0))
    for run in runs:
        add_allocation(run, "test", random_lca(0), attributes={"split": "test", "examples": 5})
        add_allocation(run, "part", random_lca(0), attributes={"examples": 5})
    assert compare(runs[:1], runs[1:]).rows == ["0", "1", "sum", "final loss, train"]


# ── trend


def trained(path, values_seed, **training):
    return make_run(
        path, random_lca(values_seed), training={"optimizer": "sgd", "momentum": 0.9, "nesterov": False, **training}
    )


def test_trend(tmp_path):
    momenta = (0.0, 0.5, 0.5, 0.75, 0.9)
    runs = [trained(tmp_path / f"{i}.zarr", i, layers=[f"1:momentum={m}"]) for i, m in enumerate(momenta)]
    result = trend(runs, "last:momentum", delay=True)
    np.testing.assert_allclose(result.x, [0, 1, 1, 3, 9])
    assert result.layers == ["0", "1"]
    for i, rows in enumerate((slice(0, 3), slice(3, 7))):
        y = [random_lca(seed)[rows].sum(dtype=np.float64) for seed in range(5)]
        line = stats.linregress([0, 1, 1, 3, 9], y)
        expected = line.slope, line.intercept, line.rvalue**2, line.pvalue
        found = result.slope[i], result.intercept[i], result.r_squared[i], result.p[i]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    told = report_trend(result)
    columns = columns_of(told, "LCA (nats) by delay of last:momentum")
    assert list(columns) == ["0", "1", "3", "9", "slope", "R²", "p (slope 0)"]
    assert len(columns["1"]["0"]["values"]) == 2
    assert trend(runs, "1:momentum", layer="last").layers == ["1"]
    np.testing.assert_allclose(trend(runs, "1:momentum").x, momenta)


def test_an_exact_line_is_found(tmp_path):
    runs = [
        make_run(tmp_path / f"{i}.zarr", np.outer([1, 0, 0, 0, 0, 0, 0], [2.0 * i, 1]), training={"learning_rate": i})
        for i in (1, 2, 4)
    ]
    result = trend(runs, "learning_rate")
    np.testing.assert_allclose((result.slope[0], result.intercept[0], result.r_squared[0]), (2, 1, 1))
    assert np.isnan([result.slope[1], result.r_squared[1]]).all()  # the other layer does not change


def test_two_runs_make_a_line_but_no_evidence(tmp_path):
    result = trend([trained(tmp_path / f"{i}.zarr", i, l2=i) for i in range(2)], "l2")
    assert np.isfinite(result.slope).all()
    assert np.isnan([result.r_squared, result.p]).all()


def test_the_option_of_a_layer_is_its_own_or_that_of_all(tmp_path):
    run = trained(tmp_path / "run.zarr", 0, layers=["*:lr=0.1", "1:learning_rate=0.2"], learning_rate=0.5)
    assert option_of(run, "learning_rate") == 0.5
    assert (option_of(run, "0:lr"), option_of(run, "last:lr"), option_of(run, "last:momentum")) == (0.1, 0.2, 0.9)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optimizer", "optimizer is 'sgd' in .*; one with a number was wanted: momentum"),
        ("nesterov", "nesterov is False"),
        ("rate", "rate is no option"),
        ("fc:momentum", "the model has no layer 'fc'"),
        ("momentum", "momentum is 0.9 in every run; a trend takes runs that differ in it"),
    ],
)
def test_an_option_that_cannot_be_fitted_is_told(tmp_path, option, message):
    runs = [trained(tmp_path / f"{i}.zarr", i) for i in range(2)]
    with pytest.raises(UsageError, match=message):
        trend(runs, option)


def test_a_delay_is_that_of_a_momentum(tmp_path):
    runs = [trained(tmp_path / f"{i}.zarr", i, seed=i) for i in range(2)]
    with pytest.raises(UsageError, match="seed is 0, 1; a delay is that of a momentum < 1"):
        trend(runs, "seed", delay=True)


def test_a_run_of_the_users_own_loop_has_no_options(tmp_path):
    with pytest.raises(LCAError, match="recorded by a loop of the user's own"):
        trend([make_run(tmp_path / "run.zarr", random_lca(0))] * 2, "momentum")


# ── error


def with_rules(path, scale=1.0):
    loss = np.array([3.0, 2, 1.5, 1.4])
    audit = Audit([0, 1], [0.002, 0.004], [0.0, 0.0], [0.01, 0.03], [0.0, 0.0]).to_json()
    exact = {"loss": loss, "residual": [1e-4, -3e-4 * scale, 1e-4], "intervals": [2, 4, 2], "status": [1, 1, 2]}
    exact["allocated"] = np.diff(loss) + exact["residual"]
    run = make_run(path, np.zeros((7, 3)), attributes={"audit_result": audit}, **exact)
    first_order = {"loss": loss, "residual": [-0.4, -0.1, 0.02], "intervals": [1, 1, 1], "status": [2, 2, 2]}
    first_order["allocated"] = np.diff(loss) + first_order["residual"]
    add_allocation(run, "first", np.zeros((7, 3)), attributes={"rule": "first-order"}, keep=False, **first_order)
    return run


def test_error_by_rule(tmp_path):
    told = report_error([error(with_rules(tmp_path / "run.zarr"))])
    columns = columns_of(told)
    assert list(columns["of ΔL %"]) == ["first, first-order", "train, simpson"]
    cell = {name: {row: value["mean"] for row, value in rows.items()} for name, rows in columns.items()}
    assert cell["|Σ A − ΔL| (nats)"] == pytest.approx({"first, first-order": 0.48, "train, simpson": 1e-4})
    assert cell["of ΔL %"] == pytest.approx({"first, first-order": 30, "train, simpson": 100e-4 / 1.6})
    assert cell["largest (nats)"] == pytest.approx({"first, first-order": 0.4, "train, simpson": 3e-4})
    assert cell["gradients"] == pytest.approx({"first, first-order": 1, "train, simpson": 8 / 3})
    assert cell["not converged"] == {"first, first-order": 3, "train, simpson": 1}
    assert cell["parts off %"] == {"first, first-order": None, "train, simpson": pytest.approx(0.3)}
    assert cell["signs wrong %"] == {"first, first-order": None, "train, simpson": pytest.approx(2)}
    assert "left out" not in describe_report(told)


def test_error_over_runs_takes_what_all_have(tmp_path):
    a, b = with_rules(tmp_path / "a.zarr"), with_rules(tmp_path / "b.zarr", scale=2)
    other = make_run(tmp_path / "c.zarr", np.zeros((7, 3)))
    rows = columns_of(report_error([error(a), error(b)]))["largest (nats)"]
    assert rows["train, simpson"]["values"] == pytest.approx([3e-4, 6e-4])
    assert list(columns_of(report_error([error(a), error(other)]))["refined"]) == ["train, simpson"]
    assert list(columns_of(report_error([error(a, ["first"])]))["refined"]) == ["first, first-order"]
    with pytest.raises(LCAError, match="no allocation in common"):
        report_error([error(a, ["first"]), error(other)])


def test_error_needs_a_complete_allocation(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.zeros((7, 3)))
    run.allocation("train").reopen()
    with pytest.raises(LCAError, match="no complete allocation. Make one with `lca allocate"):
        error(run)


# ── subset


def test_subset(tmp_path):
    full = random_lca(0, T=130)
    full[2] = 0
    part = (full + random_lca(1, T=130) / 2).astype(np.float32)
    status = np.ones(130)
    status[7] = 3
    run = make_run(tmp_path / "run.zarr", full, attributes={"examples": 1000})
    add_allocation(run, "part", part, attributes={"examples": 100}, status=status)
    add_allocation(run, "val", part, attributes={"examples": 100, "split": "val"})
    add_allocation(run, "sums", part, attributes={"examples": 50}, keep=False)
    result = subset(run)
    assert list(result.agreements) == ["part"]
    found = result.agreements["part"]
    there = status == 1
    a, b = full[:, there].astype(np.float64), part[:, there].astype(np.float64)
    assert found.correlation == pytest.approx(stats.pearsonr(a.ravel(), b.ravel()).statistic)
    assert found.of_parameters == pytest.approx(stats.pearsonr(a.sum(1), b.sum(1)).statistic)
    assert found.same_sign == pytest.approx((np.sign(a) == np.sign(b))[a != 0].mean())
    totals = [np.array([x[:3].sum(), x[3:].sum()]) for x in (a, b)]
    assert found.layer_error == pytest.approx(np.abs(totals[1] - totals[0]).sum() / np.abs(totals[0]).sum())
    helped = [(100 * (x < 0).sum(0) / (x != 0).sum(0)).mean() for x in (a, b)]
    assert found.helping_error == pytest.approx(helped[1] - helped[0])
    columns = columns_of(report_subset([result]))
    assert columns["examples"]["part"]["mean"] == 100
    assert columns["same sign %"]["part"]["mean"] == pytest.approx(100 * found.same_sign)


def test_subsets_are_told_smallest_first(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0), attributes={"examples": 1000})
    for n in (500, 20, 100):
        add_allocation(run, f"of-{n}", random_lca(0), attributes={"examples": n})
    result = subset(run)
    assert list(result.agreements) == ["of-20", "of-100", "of-500"]
    assert all(agreement.correlation == pytest.approx(1) for agreement in result.agreements.values())
    assert list(subset(run, against=["of-100"]).agreements) == ["of-100"]


def test_a_subset_is_of_the_same_split(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0))
    add_allocation(run, "val", random_lca(0), attributes={"split": "val"})
    with pytest.raises(UsageError, match="val is over the val split and train over the train split"):
        subset(run, against=["val"])


def test_without_a_subset_the_command_is_named(tmp_path):
    run = make_run(tmp_path / "run.zarr", random_lca(0))
    with pytest.raises(LCAError, match=r"`lca allocate .*run.zarr --split train --examples 1000 --name subset-1000`"):
        subset(run)
