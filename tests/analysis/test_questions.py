"""What all questions share: which iterations count, tests over runs, tables; and who helps, by tensor and layer."""

import itertools

import numpy as np
import pytest
from handmade import CONVERGED, LCA, NAN, add_allocation, columns_of, make_run
from lca.allocation.allocator import Allocator
from scipy import stats

import lca
from lca.analysis import helping, layers, neurons, oscillation, tails
from lca.analysis._helping import report as report_helping
from lca.analysis._layers import report as report_layers
from lca.analysis._neurons import NeuronSums
from lca.analysis._neurons import report as report_neurons
from lca.analysis.answer import Column, Report, Table, p_value
from lca.analysis.iterations import Iterations, described, iterations
from lca.analysis.statistics import differs_between, differs_from_zero, differs_in_pairs, mean_and_deviation
from lca.analysis.tiles import feed
from lca.errors import Interrupted, LCAError
from lca.store.audit import Audit
from lca.text import describe_report


def test_what_does_not_count_is_counted_by_reason(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 6)), status=[0, 1, 2, 3, 3, 1])
    found = iterations(run.allocation("train"))
    assert found.counted.tolist() == [False, True, False, False, False, True]
    assert found.left_out == {"not allocated": 1, "not converged": 1, "not finite": 2}
    assert found.n == 2
    assert described([found, found]) == "left out: 2 not allocated, 2 not converged, 4 not finite"
    more = iterations(run.allocation("train"), unconverged=True)
    assert more.counted.tolist() == [False, True, True, False, False, True]
    assert more.left_out == {"not allocated": 1, "not finite": 2}


def test_what_counts_in_both_counts_what_either_lacks():
    a, b = Iterations(np.array([3, 1, 1, 2, 1, 0])), Iterations(np.array([1, 3, 1, 3, 1, 1]))
    assert (a & b).counted.tolist() == [False, False, True, False, True, False]
    assert (a & b).left_out == {"not allocated": 1, "not converged": 1, "not finite": 2}
    assert (Iterations(np.array([2, 3]), unconverged=True) & Iterations(np.array([2, 1]), unconverged=True)).n == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0, r"Finish the allocation, or make it anew with `lca allocate .*run.zarr --overwrite`"),
        (2, "4 did not converge; count them all the same with"),
    ],
)
def test_nothing_is_no_answer(tmp_path, status, message):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)), status=[status] * 4)
    for question in (helping, layers, neurons, tails):
        with pytest.raises(LCAError, match=message):
            question(run)


@pytest.mark.parametrize("question", [helping, neurons, tails, oscillation])
def test_without_the_parts_the_command_is_named(tmp_path, question):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)), keep=False, gradient_positive=np.ones((7, 5), bool))
    with pytest.raises(
        LCAError, match=r"has no lca. Make it anew with `lca allocate .*run.zarr --keep lca --overwrite`"
    ):
        question(run)


def test_an_allocation_that_is_not_there_is_named_with_its_command(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)))
    with pytest.raises(LCAError, match=r"has no allocation 'val'; .* `lca allocate .*run.zarr --split val`"):
        layers(run, "val")
    with pytest.raises(LCAError, match=r"has no allocation 'mine'; .* `lca allocate .*run.zarr --name mine`"):
        layers(run, "mine")


def test_helping(tmp_path):
    result = helping(make_run(tmp_path / "run.zarr", LCA, status=CONVERGED))
    assert result.helped.tolist() == [[2, 0, 1, 0], [1, 0, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert result.hurt.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert result.zero.tolist() == [[0, 1, 0, 1], [0, 1, 0, 0], [2, 1, 1, 2], [0, 0, 0, 0]]
    # of those with non-zero LCA: 3 of 5, 5 of 6, 0 of 1
    assert result.percentage == pytest.approx(100 * (3 / 5 + 5 / 6 + 0) / 3)
    # 0.weight: 2/2, 1/2; 0.bias never; 1.weight: 1/2, 2/2, 0/1; 1.bias: 0/1, 2/2
    np.testing.assert_allclose(result.percentage_by_tensor, [75, NAN, 50, 50])
    # layer 0: 2/2, 1/2; layer 1: 1/3, 4/4, 0/1
    np.testing.assert_allclose(result.percentage_by_layer, [75, 100 * (1 / 3 + 1 + 0) / 3])
    # in how many of the three iterations: 1, 2, never any effect, 1, 2, 1, 1
    assert result.histogram.tolist() == [4 if i == 16 else 2 if i == 33 else 0 for i in range(50)]
    assert result.n_without_effect == 1
    assert result.iterations.counted.tolist() == [True, True, True, False]
    assert result.tensors == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert result.layers == ["0", "1"]


def test_an_iteration_that_did_not_converge_counts_only_if_asked_for(tmp_path):
    run = make_run(tmp_path / "run.zarr", LCA, status=[1, 2, 1, 3])
    assert helping(run).helped.sum(1).tolist() == [3, 0, 0, 0]
    assert helping(run).zero.sum(1).tolist() == [2, 0, 6, 0]
    assert helping(run, unconverged=True).helped.sum(1).tolist() == [3, 5, 0, 0]
    np.testing.assert_allclose(layers(run).total, [-4, 3.5])
    np.testing.assert_allclose(layers(run, unconverged=True).total, [-3, -1])


def test_a_parameter_that_always_helps_is_in_the_last_bin(tmp_path):
    result = helping(make_run(tmp_path / "run.zarr", -np.ones((7, 70))))
    assert result.histogram.tolist() == [0] * 49 + [7]


def test_shares_are_of_all_parameters_and_nan_where_left_out(tmp_path):
    helped, hurt, zero = helping(make_run(tmp_path / "run.zarr", LCA, status=CONVERGED)).shares()
    np.testing.assert_allclose(helped, [300 / 7, 500 / 7, 0, NAN])
    np.testing.assert_allclose(hurt, [200 / 7, 100 / 7, 100 / 7, NAN])
    np.testing.assert_allclose(zero, [200 / 7, 100 / 7, 600 / 7, NAN])


def test_the_report_of_helping_tells_runs_audit_and_what_is_left_out(tmp_path):
    audit = Audit([0, 1], [0.01, 0.01], [0.0, 0.0], [0.02, 0.04], [0.5, 0.7]).to_json()
    a = make_run(tmp_path / "a.zarr", LCA, status=CONVERGED, attributes={"audit_result": audit})
    b = make_run(tmp_path / "b.zarr", np.negative(LCA), status=CONVERGED)
    report = report_helping([helping(a), helping(b)])
    percentages = [100 * (3 / 5 + 5 / 6) / 3, 100 * (2 / 5 + 1 / 6 + 1) / 3]
    cells = columns_of(report)["helping %"]["all parameters"]
    assert cells["values"] == pytest.approx(percentages)
    assert cells["mean"] == pytest.approx(np.mean(percentages))
    assert cells["deviation"] == pytest.approx(np.std(percentages, ddof=1))
    assert columns_of(report, "by tensor")["helping %"]["0.bias"]["mean"] is None
    text = describe_report(report)
    # half-width: t(0.975, 1) · 0.1414 / √2 points, and a tenth of it in the signs' percent
    half = stats.t.ppf(0.975, 1) * np.std([0.5, 0.7], ddof=1) / 2**0.5
    assert f"run 0, audit: the percentage is off by 0.600 ± {half:.3f} points, 3.00 ± {10 * half:.2f} % of the" in text
    assert "run 1, audit: none" in text
    assert text.endswith("4 iterations, 2 runs; left out: 2 not finite")
    assert len(report.to_json()["histogram"][0]) == 50


def test_layers_join_the_bias_to_its_kernel(tmp_path):
    lca = [*LCA[:2], [8.0, 0.0, -2.0, NAN], *LCA[3:]]
    result = layers(make_run(tmp_path / "run.zarr", lca, status=CONVERGED))
    assert result.layers == ["0", "1"]
    np.testing.assert_allclose(result.lca, [[4, -0.5], [1, -4.5], [-2, 4], [NAN, NAN]])
    np.testing.assert_allclose(result.total, [3, -1])
    np.testing.assert_allclose(result.total_by_tensor, [-3, 6, 1, -2])
    np.testing.assert_allclose(result.cumulative, [[4, -0.5], [5, -5], [3, -1], [3, -1]])
    assert result.iterations.left_out == {"not finite": 1}


def test_the_layers_are_told_by_class(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 4))
    class_lca = rng.normal(size=(4, 3, 4))
    runs = [
        make_run(tmp_path / f"{i}.zarr", values, status=[1, 1, 2, 1], class_lca=class_lca + i, attributes=names)
        for i, names in enumerate([{"class_names": ["cat", "dog", "7"]}] * 2)
    ]
    result = layers(runs[0])
    counted = class_lca[[0, 1, 3]].sum(0)
    np.testing.assert_allclose(result.by_class, np.stack([counted[:, :2].sum(1), counted[:, 2:].sum(1)], 1))
    title = "LCA (nats) of the part of the loss that each class makes up"
    found = columns_of(report_layers([layers(run) for run in runs]), title)
    assert list(found) == ["cat", "dog", "7"]
    assert found["dog"]["1"]["values"] == pytest.approx([counted[1, 2:].sum(), counted[1, 2:].sum() + 2 * 3])
    assert found["dog"]["sum"]["mean"] == pytest.approx(counted[1].sum() + 0.5 * 4 * 3)
    without = make_run(tmp_path / "without.zarr", values)
    assert title not in [table.title for table in report_layers([layers(without)]).tables]
    assert title not in [table.title for table in report_layers([result, layers(without)]).tables]


def test_the_report_of_layers_tells_shares_kinds_and_tests(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(-1, 1, (3, 7, 10))
    runs = [make_run(tmp_path / f"{i}.zarr", v) for i, v in enumerate(values)]
    report = report_layers([layers(run) for run in runs])
    totals = values.sum(2)
    by_layer = np.stack([totals[:, :3].sum(1), totals[:, 3:].sum(1), totals.sum(1)])
    for row, of_runs in zip(("0", "1", "sum"), by_layer, strict=True):
        found = columns_of(report)
        assert found["LCA (nats)"][row]["values"] == pytest.approx(of_runs, rel=1e-6)
        assert found["LCA (nats)"][row]["deviation"] == pytest.approx(of_runs.std(ddof=1), rel=1e-6)
        assert found["share %"][row]["mean"] == pytest.approx((100 * of_runs / by_layer[2]).mean(), rel=1e-6)
        p = found["p (t-test against 0)"][row]["mean"]
        assert p == pytest.approx(stats.ttest_1samp(of_runs, 0).pvalue, rel=1e-5)
    apart = columns_of(report, "kernels, biases and norms apart")
    assert apart["LCA (nats)"]["every bias"]["values"] == pytest.approx(totals[:, [2, 5, 6]].sum(1), rel=1e-6)
    share = (100 * totals[:, 2] / by_layer[0]).mean()
    assert apart["share of its layer %"]["0.bias"]["mean"] == pytest.approx(share, rel=1e-5)
    cumulative = columns_of(report, "cumulative LCA (nats), after the first part of the iterations")
    assert cumulative["30 %"]["1"]["values"] == pytest.approx(values[:, 3:, :3].sum((1, 2)), rel=1e-5)


def test_neurons_are_rows_of_the_kernel_with_their_bias(tmp_path):
    lca = np.where(np.isnan(LCA), 0, LCA) + np.arange(7)[:, None]
    result = neurons(make_run(tmp_path / "run.zarr", lca, status=CONVERGED))
    assert result.units.names == ["0[0]", "1[0]", "1[1]"]
    expected = np.stack([lca[:3].sum(0), lca[3] + lca[5], lca[4] + lca[6]])
    expected[:, 3] = NAN
    np.testing.assert_allclose(result.lca, expected)
    np.testing.assert_allclose(result.total, np.nansum(expected, axis=1))
    assert result.edges.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("length", [3, 10, 65, 130])
def test_neurons_over_more_time_than_fits_are_summed_in_bins(tmp_path, length):
    lca = np.random.default_rng(0).normal(size=(7, 130))
    status = np.ones(130)
    status[[5, 6, 7, 8, 9, 100]] = 2
    run = make_run(tmp_path / "run.zarr", lca, status=status)
    fine = neurons(run)
    sums = NeuronSums(run.parameters, fine.iterations, max_cells=130 * 3 // length)
    feed(run, run.allocation("train").lca, fine.iterations.counted, [sums])
    coarse = sums.result()
    edges = [*range(0, 130, length), 130]
    assert coarse.edges.tolist() == edges
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        there = fine.lca[:, begin:end]
        expected = np.where(np.isnan(there).all(1), NAN, np.nansum(there, 1))
        np.testing.assert_allclose(coarse.lca[:, i], expected, rtol=1e-6)
    np.testing.assert_allclose(coarse.total, fine.total, rtol=1e-6)


def test_the_neurons_that_help_and_hurt_most_are_named(tmp_path):
    lca = np.zeros((7, 2))
    lca[[0, 5, 6]] = [[-1, -1], [3, -1], [-5, 0]]
    report = report_neurons([neurons(make_run(tmp_path / "run.zarr", lca))], ["run.zarr"])
    overview, named = report.tables
    assert list(named.rows) == ["1[1]", "0[0]", "1[0]"]
    assert named.columns["LCA (nats)"].values.tolist() == [[-5, -2, 2]]
    assert overview.columns["neurons"].values.tolist() == [[1, 2]]
    assert overview.columns["helping over all %"].values.tolist() == [[100, 50]]
    assert overview.columns["lowest (nats)"].values.tolist() == [[-2, -5]]
    assert overview.columns["highest (nats)"].values.tolist() == [[-2, 2]]


def test_mean_and_sample_deviation():
    mean, deviation = mean_and_deviation([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]])
    np.testing.assert_allclose(mean, [3, 10])
    np.testing.assert_allclose(deviation, [7**0.5, 0])
    mean, deviation = mean_and_deviation([5.0])
    assert (float(mean), np.isnan(deviation)) == (5.0, True)


def test_the_tests_over_runs_are_those_of_scipy():
    a, b = np.random.default_rng(0).normal(size=(2, 6, 4))
    b[:, 0] += 3
    np.testing.assert_allclose(differs_from_zero(a), stats.ttest_1samp(a, 0).pvalue)
    np.testing.assert_allclose(differs_in_pairs(a, b), stats.ttest_rel(a, b).pvalue)
    np.testing.assert_allclose(differs_between(a, b[:4]), stats.ttest_ind(a, b[:4], equal_var=False).pvalue)
    assert differs_between(a, b)[0] < 0.01


def test_what_cannot_be_tested_has_no_p_value():
    frozen = np.zeros((3, 1))
    assert np.isnan(differs_from_zero(frozen)).all()
    assert np.isnan(differs_from_zero([[1.0]])).all()
    assert np.isnan(differs_between([[1.0]], [[2.0], [3.0]])).all()
    assert p_value(np.nan) == "–"
    assert (p_value(0.0123), p_value(3.14e-7), p_value(0.0)) == ("0.012", "3.1e-07", "< 1e-16")


def test_a_report_for_people_and_for_programs(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 2)))
    counted = [iterations(run.allocation("train"))] * 2
    columns = {
        "x (nats)": Column(np.array([[1.0, NAN], [3.0, NAN]]), 1),
        "n": Column.of([7, 8], text=lambda n: f"{n:g}!"),
    }
    report = Report(
        "question", [Table("row", ["a", "b"], columns, "a title")], counted, ["a note"], {"c": np.arange(2)}
    )
    assert describe_report(report).splitlines() == [
        "a title",
        "row   x (nats)   n",
        "───  ─────────  ──",
        "a    2.0 ± 1.4  7!",
        "b            –  8!",
        "",
        "a note",
        "2 iterations, 2 runs",
    ]
    assert report.to_json() == {
        "question": "question",
        "runs": 2,
        "iterations": [2, 2],
        "iterations_left_out": [{}, {}],
        "tables": [
            {
                "title": "a title",
                "columns": {
                    "x (nats)": {
                        "a": {"mean": 2.0, "deviation": pytest.approx(2**0.5), "values": [1.0, 3.0]},
                        "b": {"mean": None, "deviation": None, "values": [None, None]},
                    },
                    "n": {
                        "a": {"mean": 7.0, "deviation": None, "values": [7.0]},
                        "b": {"mean": 8.0, "deviation": None, "values": [8.0]},
                    },
                },
            }
        ],
        "notes": ["a note"],
        "c": [0, 1],
    }


def test_several_allocations_of_one_run_are_apart(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 3)))
    add_allocation(run, "other", -np.ones((7, 3)))
    assert (helping(run).percentage, helping(run, "other").percentage) == (0, 100)


def test_runs_of_different_length_are_cut_at_the_same_part(tmp_path):
    runs = [make_run(tmp_path / f"{T}.zarr", np.ones((7, T))) for T in (10, 20)]
    report = report_layers([layers(run) for run in runs])
    cells = columns_of(report, "cumulative LCA (nats), after the first part of the iterations")
    assert cells["30 %"]["sum"]["values"] == [21, 42]
    assert describe_report(report).endswith("10 or 20 iterations, 2 runs")
    assert report.to_json()["cumulative"][0]["iteration"] == list(range(10))


def test_a_single_audited_iteration_has_no_interval(tmp_path):
    audit = Audit([0], [0.01], [0.0], [0.02], [0.5]).to_json()
    run = make_run(tmp_path / "run.zarr", LCA, status=CONVERGED, attributes={"audit_result": audit})
    assert "off by 0.500 points, 2.00 % of the signs" in describe_report(report_helping([helping(run)]))


def test_what_is_infinite_or_always_the_same_is_no_warning():
    mean, deviation = mean_and_deviation([[np.inf], [np.inf]])
    assert (mean[0], np.isnan(deviation[0])) == (np.inf, True)
    assert 0 < differs_between([[2.0], [2.0]], [[3.0], [4.0]])[0] < 1


def test_an_interrupted_allocation_answers_for_what_there_is(run, problem, monkeypatch):
    """Files of blocks that were not begun are not lost ones."""
    allocate_block = Allocator._allocate_block

    def first_only(self, block, writer):
        if block:
            raise Interrupted("stopped")
        allocate_block(self, block, writer)

    monkeypatch.setattr(Allocator, "_allocate_block", first_only)
    with pytest.raises(Interrupted):
        lca.allocate(run, problem(), lca.AllocateConfig(device="cpu", gradient_signs=True))
    opened = lca.open(run)
    assert not opened.allocation("train").complete
    for question in (helping, layers, tails, neurons, oscillation):
        assert question(opened).iterations.counted.sum() == 64
        assert question(opened).iterations.left_out == {"not allocated": 36}
    monkeypatch.undo()
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu", gradient_signs=True))
    assert helping(lca.open(run)).iterations.counted.all()
