"""The reproduction of the paper: its tables, the runs that it makes, its measurements and its page."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lca
import reproduce_paper
from lca.errors import LCAError
from lca.problem.zoo.presets import PRESETS
from lca.runtime.workers import join_workers
from paper import certainty, hurting, moments, noise
from paper.archive import Archive, NotMade
from paper.drawings import DRAWINGS, FILMS
from paper.experiments import EXPERIMENTS, SCALES, Experiment, Size
from paper.findings import FINDINGS
from paper.forecast import forecast
from paper.making import make, plan
from paper.measured import Finding, Measured, all_agree, has_sign, is_lower
from paper.page import make_row, write_page

SMALL = {**SCALES["smoke"], "mnist-fc": Size("digits-fc", iterations=12, runs=2, subsets=(100, 300, 800))}


def accept_all(name):
    return True


def make_runs(works, name):
    with join_workers() as team:
        for work in works[name]:
            make(work, None, team, progress=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A plan of all experiments, with small runs of mnist-fc-sgd."""
    works = plan(SMALL, tmp_path_factory.mktemp("reproduction"), accept_all)
    make_runs(works, "mnist-fc-sgd")
    return works


def test_every_scale_defines_a_size_for_every_problem():
    for sizes in SCALES.values():
        assert {experiment.problem for experiment in EXPERIMENTS} == set(sizes)
        for name, size in sizes.items():
            problem = size.problem or name
            assert problem in PRESETS or Path(problem.partition(":")[0]).exists()


def test_names_of_experiments_are_unique():
    names = [experiment.name for experiment in EXPERIMENTS]
    assert len(set(names)) == len(names)


def test_figures_of_findings_and_drawings_match():
    assert {name for finding in FINDINGS for name in finding.figures} == {*DRAWINGS, *FILMS}


def test_scale_paper_is_complete():
    for size in SCALES["paper"].values():
        assert size.problem is None
        assert size.iterations is None
        assert size.whole is None
        assert set(size.train) <= {"keep_bits"}


@pytest.mark.parametrize("scale", SCALES)
def test_plan_contains_the_runs_of_every_experiment(scale, tmp_path):
    works = plan(SCALES[scale], tmp_path, accept_all)
    assert list(works) == [experiment.name for experiment in EXPERIMENTS]
    for experiment in EXPERIMENTS:
        runs = works[experiment.name]
        assert len(runs) == min(experiment.runs, SCALES[scale][experiment.problem].runs)
        assert [work.training.seed for work in runs] == list(range(len(runs)))
        assert all(work.missing == list(work.allocations) for work in runs)
        for work in runs:
            for name in work.allocations:
                work.config(name).range(work.training.iterations)  # does not raise


def test_finished_runs_are_not_made_again(small):
    work = small["mnist-fc-sgd"][0]
    assert work.missing == []
    assert set(work.allocations) == {
        "train", "val", "first-order", "trapezoid", "subset-100", "subset-300", "subset-800"
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in work.path.rglob("*") if path.is_file()}
    make_runs(small, "mnist-fc-sgd")
    assert {path: path.stat().st_mtime_ns for path in work.path.rglob("*") if path.is_file()} == before


def test_only_missing_parts_are_made(tmp_path):
    works = plan(SMALL, tmp_path, lambda name: name == "mnist-fc-plain")
    work = works["mnist-fc-plain"][0]
    problem = lca.load("digits-fc")
    lca.train(problem, work.path, work.training)
    weights = (work.path / "weights" / "zarr.json").stat().st_mtime_ns
    assert work.missing == ["train"]
    make_runs(works, "mnist-fc-plain")
    assert work.missing == []
    assert (work.path / "weights" / "zarr.json").stat().st_mtime_ns == weights


def test_runs_made_with_other_options_are_refused(small):
    work = small["mnist-fc-sgd"][0]
    other = plan({**SMALL, "mnist-fc": Size("digits-fc", iterations=13)}, work.path.parent, accept_all)["mnist-fc-sgd"][
        0
    ]
    with pytest.raises(LCAError, match="iterations: expected 13, found 12. Delete it"):
        _ = other.missing


def test_allocations_made_with_other_options_are_refused(small):
    path = small["mnist-fc-sgd"][0].path
    sizes = {**SMALL, "mnist-fc": Size("digits-fc", iterations=12, train={"rule": "trapezoid"})}
    other = plan(sizes, path.parent, accept_all)["mnist-fc-sgd"][0]
    with pytest.raises(LCAError, match="allocation train: rule: expected 'trapezoid', found 'simpson'"):
        _ = other.missing


def test_failed_experiment_is_reported_and_the_others_are_made(tmp_path, capsys):
    sizes = {**SMALL, "mnist-fc": Size("digits-fc", iterations=5, runs=1, subsets=(9_999,))}
    works = plan(sizes, tmp_path, lambda name: name in ("mnist-fc-sgd", "mnist-fc-adam"))
    with join_workers() as team:
        failures = reproduce_paper.make_all(works, None, team)
    assert list(failures) == ["mnist-fc-sgd"]
    reason = "examples: expected 1 to 1,500, the size of the train split of digits-fc, found 9,999."
    assert failures["mnist-fc-sgd"] == f"mnist-fc-sgd-0.zarr: {reason}"
    lines = capsys.readouterr().out.splitlines()
    start = "  1/2  mnist-fc-sgd                    1 run, 5 allocations; failed: mnist-fc-sgd-0.zarr: "
    assert lines[0] == start + reason
    assert re.fullmatch(r"  2/2  mnist-fc-adam                   1 run, 1 allocation: \d+ s", lines[1])
    assert works["mnist-fc-sgd"][0].missing == ["subset-9999"]  # allocations made before the failure are kept


@pytest.mark.parametrize(
    ("experiment", "sizes", "message"),
    [
        ("mnist-fc-sgd", {"options": {"width": 2.0}}, "problem_options: expected {'width': 2.0}, found {'width': 1.0}"),
        ("mnist-fc-sgd", {"train": {"examples": 50}}, "allocation train: examples: expected 50, found 1500"),
        ("mnist-fc-sgd", {"problem": "digits-resnet"}, "problem: expected 'digits-resnet', found 'digits-fc'"),
    ],
)
def test_every_different_option_is_detected(small, experiment, sizes, message):
    size = Size(**{"problem": "digits-fc", "iterations": 12, **sizes})
    work = plan({**SMALL, "mnist-fc": size}, small[experiment][0].path.parent, accept_all)[experiment][0]
    with pytest.raises(LCAError, match=re.escape(message)):
        _ = work.missing


def test_different_by_class_option_is_detected(small):
    work = small["mnist-fc-sgd"][0]
    other = replace(work, allocations={"train": {**work.allocations["train"], "by_class": False}})
    with pytest.raises(LCAError, match="by_class: expected False, found True"):
        _ = other.missing


def test_page_ignores_runs_made_with_other_options(small):
    path = small["mnist-fc-sgd"][0].path
    sizes = {**SMALL, "mnist-fc": Size("digits-fc", iterations=12, train={"rule": "trapezoid"})}
    with pytest.raises(NotMade, match="no run of mnist-fc-sgd has a finished allocation train"):
        Archive(plan(sizes, path.parent, accept_all), None).helping("mnist-fc-sgd")


def test_forecast_covers_only_missing_parts(small):
    works = small["mnist-fc-sgd"]
    nothing = forecast(works, None)
    assert (nothing.seconds, nothing.n_bytes, nothing.n_missing, nothing.unknown) == (0, 0, 0, {})
    something = forecast([*works, *small["mnist-fc-adam"]], None)
    assert something.n_missing == 2
    assert something.seconds > 0
    K, T = 2_778, 12
    assert something.n_bytes == pytest.approx(2 * 4 * K * ((T + 1) * 0.55 + T * 0.78))


def test_page_without_runs_lists_every_finding_as_not_run(tmp_path):
    summary = write_page(plan(SMALL, tmp_path / "runs", accept_all), tmp_path, "smoke", None, {})
    assert f"{len(FINDINGS)} findings: agrees 0, differs 0, open 0, not run {len(FINDINGS)}, failed 0" in summary
    rows = [line for line in (tmp_path / "index.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(FINDINGS) + 2


class ParsedPage(HTMLParser):
    """The tags of a page, and the sources of its pictures and films."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name == "src"]


def test_page_shows_finished_runs(small, tmp_path):
    write_page(small, tmp_path, "smoke", None, {"mnist-lenet-sgd": "it <failed>"})
    page = (tmp_path / "index.html").read_text()
    assert "it &lt;failed&gt;" in page
    parsed = ParsedPage(page)
    assert parsed.tags.count("tr") == len(FINDINGS) + 1
    drawn = {Path(source).stem for source in parsed.sources}
    assert drawn >= {"layers-mnist-fc-sgd", "peaks-by-class", "film-mnist-fc"}
    assert all((tmp_path / source).stat().st_size > 1_000 for source in parsed.sources)
    percentages = [lca.analysis.helping(lca.open(work.path)).percentage for work in small["mnist-fc-sgd"]]
    percentage = f"{np.mean(percentages):.2f} ± {np.std(percentages, ddof=1):.2f} %"
    markdown = (tmp_path / "index.md").read_text()
    row = next(line for line in markdown.splitlines() if "MNIST–FC, SGD: 57.79" in line)
    assert percentage in row
    basis = "2 runs of mnist-fc-sgd (digits-fc), 12 of the 880 iterations trained, all 12 iterations, "
    assert basis + "all 1,500 train examples, cpu" in row
    verdict = "agrees" if abs(np.mean(percentages) - 57.79) <= 1 else "differs"
    assert f"| {verdict} |" in row
    assert (
        "no run of mnist-lenet-sgd has a finished allocation train |  | within 1.5 percentage points | not run |"
        in markdown
    )
    subsets = next(line for line in markdown.splitlines() if "gradients over a subset" in line)
    assert re.search(r"of 1,500 examples: 100: error of layer totals .* 300: .* 800: ", subsets)
    assert "100 of 1,500 train examples" in subsets
    errors = next(line for line in markdown.splitlines() if "MNIST–FC: Simpson's rule" in line)
    assert errors.count("1 run of") == 3


def test_row_states_its_basis(tmp_path):
    experiment = Experiment("mnist-fc-plain", "mnist-fc")
    sizes = {
        **SMALL,
        "mnist-fc": Size("digits-fc", iterations=12, runs=1, train={"examples": 200, "iterations": "1::4"}),
    }
    works = plan(sizes, tmp_path, lambda name: name == experiment.name)
    make_runs(works, experiment.name)
    finding = Finding("", "", "", lambda archive: Measured(str(archive.layers(experiment.name)[0].iterations.n), True))
    row = make_row(finding, Archive(works, None), tmp_path, {})
    assert row.text == "3"
    assert row.basis == (
        "1 run of mnist-fc-plain (digits-fc), 12 of the 880 iterations trained, 3 of 12 iterations allocated, "
        "200 of 1,500 train examples, cpu"
    )


class FakeTotals:
    """A replacement for an archive, with given layer totals of shape (run, layer) for each experiment."""

    def __init__(self, losses=None, **totals):
        self.of = {name.replace("_", "-"): np.array(values) for name, values in totals.items()}
        self.losses = losses

    def totals(self, experiment):
        return self.of[experiment]

    def layer_names(self, experiment):
        return [f"layer{i}" for i in range(self.of[experiment].shape[1])]

    def last_loss(self, experiment, name):
        return np.array(self.losses[experiment][name])

    def first(self, experiment, name):
        attributes = {"split": "test" if name == "final" else name}
        return SimpleNamespace(allocation=lambda name: SimpleNamespace(attributes=attributes))


HURTING = [[0.10, -1.0, -0.5, 0.20], [0.11, -1.1, -0.4, 0.19], [0.12, -0.9, -0.6, 0.22]]
UNCLEAR = [[0.10, -1.0, 0.5, -0.20], [-0.09, -1.1, -0.4, 0.25], [0.01, -0.9, -0.6, 0.02]]


def test_signs_of_layers_are_judged():
    archive = FakeTotals(a=HURTING, b=UNCLEAR, one=HURTING[:1])
    assert hurting.first_and_last_hurt(archive, "a").agrees
    assert hurting.others_help(archive, "a") == Measured("2 of 2", True)
    assert hurting.layer_hurts(archive, "a", hurting.LAST).agrees
    assert hurting.first_and_last_hurt(archive, "b").agrees is False
    assert hurting.others_help(archive, "b") == Measured("1 of 2; not layer2", False)
    assert hurting.layer_hurts(archive, "b", hurting.LAST).agrees is False
    assert hurting.layer_hurts(archive, "a", 1).agrees is False
    assert hurting.all_help(archive, "a").agrees is False
    assert hurting.last_two_inconsistent(archive, "a").agrees is False
    assert hurting.last_two_inconsistent(archive, "b").agrees
    assert hurting.hurting_layers(archive, ["a"], at_least=2).agrees
    assert hurting.hurting_layers(archive, ["a", "b"], at_least=2).agrees is False
    assert hurting.hurting_layers(archive, ["a"], at_most=0) == Measured(
        "a: layer0 +0.1100, layer3 +0.2033, of 4 layers", False
    )
    assert hurting.hurting_layers(archive, ["b"], at_most=0).agrees
    assert {hurting.layer_hurts(archive, "one", 0).agrees, hurting.all_help(archive, "one").agrees} == {None}


def test_sign_depends_on_the_number_of_runs():
    assert has_sign(np.array([0.1, 0.2]), +1)
    assert has_sign(np.array([0.1, -0.01]), +1) is False
    assert has_sign(np.array([-0.1, -0.2]), -1)
    assert has_sign(np.array([0.1]), +1) is None
    assert has_sign(np.array([0.1, 0.1, 0.1]), +1)  # no t-test without variance
    assert has_sign(np.array([1.0, 1.0, -0.9]), +1) is False
    assert is_lower(np.array([1.0, 1.1, 0.9]), np.array([2.0, 2.1, 1.9]))
    assert is_lower(np.array([1.0, 1.1, 0.9]), np.array([1.0, 1.2, 0.9])) is False
    assert is_lower(np.array([1.0]), np.array([2.0, 2.1])) is None
    assert (all_agree([True, None]), all_agree([False, None]), all_agree([True, True])) == (None, False, True)


REGULAR = [[0.2, -1.0, -1.0, -1.0], [0.2, -1.1, -1.0, -1.0], [0.2, -1.0, -1.1, -1.0]]


def test_other_layers_help_less_and_the_neighbor_least():
    frozen = [[0.0, -0.7, -0.9, -1.0], [0.0, -0.8, -0.9, -0.9], [0.0, -0.8, -0.8, -1.0]]
    more = [[0.0, -2.0, -2.0, -2.0], [0.0, -2.0, -2.2, -2.0], [0.0, -2.0, -2.3, -2.0]]
    archive = FakeTotals(cifar_resnet_sgd=REGULAR, less=frozen, more=more)
    assert hurting.others_help_less(archive, "less", layer=0).agrees
    assert hurting.others_help_less(archive, "more", layer=0).agrees is False
    assert hurting.others_help_less(FakeTotals(cifar_resnet_sgd=REGULAR[:1], less=frozen), "less", 0).agrees is None
    assert hurting.neighbor_helps_less(archive, "less", layer=0).agrees
    assert hurting.neighbor_helps_less(archive, "more", layer=0).agrees is False
    of_last = FakeTotals(cifar_resnet_sgd=REGULAR, less=[row[::-1] for row in frozen])
    assert hurting.neighbor_helps_less(of_last, "less", layer=-1).text.startswith("layer2 +")


def make_losses(train, final, regular=((1.0, 1.1, 0.9), (2.0, 2.1, 1.9))):
    by_name = {"train": regular[0], "final": regular[1]}
    return FakeTotals(losses={"cifar-resnet-sgd": by_name, "changed": {"train": train, "final": final}})


def test_final_losses_are_compared():
    lower, alike, higher = (0.5, 0.6, 0.4), (1.0, 1.05, 0.9), (2.0, 2.1, 1.9)
    assert hurting.better_in_the_end(make_losses(lower, lower), "changed").agrees
    assert hurting.better_in_the_end(make_losses(lower, higher), "changed").agrees is False
    assert hurting.better_in_the_end(make_losses([0.5], [0.5]), "changed").agrees is None
    assert hurting.better_in_the_end(make_losses(lower, lower), "changed").text.startswith(
        "train 0.5000 ± 0.1000 compared with 1.0"
    )
    assert hurting.not_better_not_worse(make_losses(alike, higher), "changed").agrees
    assert hurting.not_better_not_worse(make_losses(lower, higher), "changed").agrees is False
    assert hurting.not_better_not_worse(make_losses(higher, higher), "changed").agrees is False


def test_slow_layer_is_compared_with_frozen_and_regular():
    others = {"cifar_resnet_sgd": [[-1.0, 0.2]], "cifar_resnet_last_frozen": [[-0.8, 0.0]]}
    assert hurting.slow_as_frozen(FakeTotals(**others, cifar_resnet_last_slow=[[-0.8, 0.05]])).agrees
    assert not hurting.slow_as_frozen(FakeTotals(**others, cifar_resnet_last_slow=[[-1.0, 0.19]])).agrees


def make_totals(last, others=lambda delay: -1.0):
    totals = {
        each.replace("-", "_"): [[-1.0, others(d), last(d)]] for d, each in hurting.experiments_by_delay().items()
    }
    totals["cifar_resnet_sgd"] *= 3  # three regular runs count as one point
    return FakeTotals(**totals)


def test_linear_trend_over_the_delay():
    assert hurting.linear_in_delay(make_totals(lambda d: 0.1 * d - 0.5)).agrees
    assert "+0.1000 per iteration, R² = 1.00" in hurting.linear_in_delay(make_totals(lambda d: 0.1 * d - 0.5)).text
    assert not hurting.linear_in_delay(make_totals(lambda d: 0.1 * d)).agrees  # never helps
    assert not hurting.linear_in_delay(make_totals(lambda d: 0.5 - 0.1 * d)).agrees
    assert not hurting.linear_in_delay(make_totals(lambda d: -0.5 if d < 9 else 1.0)).agrees
    assert hurting.others_by_delay(make_totals(lambda d: 0.1 * d, lambda d: 0.3 - 0.1 * d)).agrees
    assert not hurting.others_by_delay(make_totals(lambda d: 0.1 * d, lambda d: -0.3 - 0.1 * d)).agrees
    assert not hurting.others_by_delay(make_totals(lambda d: 0.1 * d, lambda d: 0.3 + 0.1 * d)).agrees


class FakeAnswers:
    """A replacement for an archive that returns the given results of an experiment, whatever the question."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "-"): of_runs for name, of_runs in answers.items()}

    def ask(self, question, experiment, *names, **options):
        return self.answers[experiment]

    def helping(self, experiment):
        return self.answers[experiment]

    layers = helping

    def layer_names(self, experiment):
        return ["a", "b"]

    def over_time(self, experiment):
        return "train"


def make_percentages(*percentages):
    return [SimpleNamespace(percentage=value) for value in percentages]


def test_percentage_must_be_within_the_tolerance():
    archive = FakeAnswers(a=make_percentages(57.0, 58.0, 59.0), b=make_percentages(50.0))
    assert noise.helping_near(archive, "a", 57.2, 1.0) == Measured("58.00 ± 1.00 %", True)
    assert noise.helping_near(archive, "a", 56.9, 1.0).agrees is False
    assert noise.all_within(archive, ["a", "b"], 49.9, 58).agrees
    assert noise.all_within(archive, ["a", "b"], 50, 58).agrees is False
    assert noise.over_half(
        FakeAnswers(a=make_percentages(57.0, 58.0, 59.0), b=make_percentages(50.1, 50.2)), ["a", "b"]
    ).agrees
    assert noise.over_half(archive, ["a", "b"]).agrees is None  # experiment b has a single run
    assert noise.over_half(FakeAnswers(a=make_percentages(49.0, 50.1, 50.2)), ["a"]).agrees is False


def make_counts(helped, hurt):
    """Return a result of `helping` for a single tensor, with these counts in each iteration."""
    iterations = SimpleNamespace(mask=np.ones(len(helped), bool))
    return SimpleNamespace(helped=np.array(helped)[:, None], hurt=np.array(hurt)[:, None], iterations=iterations)


def test_iteration_without_effect_has_no_percentage():
    np.testing.assert_equal(noise.compute_percentages(make_counts([3, 0, 1], [1, 0, 1])), [75, np.nan, 50])


def test_learning_rates_are_compared_over_the_same_iterations():
    def at(percentage):
        """Return counts with this percentage in the sampled iterations and 0 % in the others."""
        helped = np.zeros(100, int)
        helped[noise.SAMPLED] = 10 * percentage
        return [make_counts(helped, 1_000 - helped)]

    curve = {0.05: 59, 0.1: 58, 0.2: 57, 0.5: 55}
    answers = {f"mnist-fc-plain-rate-{rate:g}": at(percentage) for rate, percentage in curve.items() if rate != 0.2}
    archive = FakeAnswers(**answers, mnist_fc_plain=at(curve[0.2]))
    measured = noise.helping_by_rate(archive, "plain", 0.2, 55.5)
    assert measured == Measured("59.0 % at 0.05, 58.0 % at 0.1, 57.0 % at 0.2, 55.0 % at 0.5", True)
    assert not noise.helping_by_rate(archive, "plain", 0.2, 54.9).agrees


def test_slightly_more_parameters_must_help_early():
    later = [55] * 98
    assert noise.more_help_early(FakeAnswers(a=[make_counts([60, 60, *later], [40, 40, *[45] * 98])]), "a").agrees
    assert not noise.more_help_early(FakeAnswers(a=[make_counts([50, 50, *later], [50, 50, *[45] * 98])]), "a").agrees
    assert not noise.more_help_early(FakeAnswers(a=[make_counts([90, 90, *later], [10, 10, *[45] * 98])]), "a").agrees


def test_parameters_that_never_change_do_not_swing():
    def histogram(**bins):
        values = np.zeros(50, int)
        for name, n in bins.items():
            values[int(name[1:]) // 2] = n
        return [SimpleNamespace(histogram=values)]

    assert noise.parameters_swing(FakeAnswers(a=histogram(_40=3, _58=3, _60=5)), "a") == Measured(
        "54.5 % of them", True
    )
    assert (
        noise.parameters_swing(FakeAnswers(a=histogram(_0=50, _98=50)), "a").agrees is False
    )  # half of them always help, so the mean is about 50 %


def test_only_the_first_iterations_of_the_last_layer_count():
    def run(first, later):
        lca = np.zeros((30, 2))
        lca[: hurting.N_FIRST, 1], lca[hurting.N_FIRST :, 1] = first, later
        return SimpleNamespace(lca=lca)

    assert hurting.last_hurts_at_first(FakeAnswers(a=[run(0.1, -9), run(0.2, -9)]), "a").agrees
    assert hurting.last_hurts_at_first(FakeAnswers(a=[run(-0.1, 9), run(-0.2, 9)]), "a").agrees is False


def make_peaks(n, baseline):
    series = {"LCA": SimpleNamespace(n=n, baseline=np.array(baseline))}
    return SimpleNamespace(series=series, layers=["a", "b"], classes=["0"])


def test_common_peaks_are_compared_with_random_shifts():
    """One draw in 25 shifts two layers alike and keeps every common peak, so a single run is not significant."""
    baseline = [10] * 4 + [1] * 96
    archive = FakeAnswers(
        one=[make_peaks(10, baseline)], three=[make_peaks(10, baseline)] * 3, none=[make_peaks(1, baseline)] * 3
    )
    one = moments.layers_peak_together(archive, "one")
    assert one == Measured(f"10.0, by chance 1.36 (p = {5 / 101:.2g}), 2 layers", False)
    assert moments.layers_peak_together(archive, "three").agrees
    assert moments.layers_peak_together(archive, "none").agrees is False


def test_peaks_of_lca_must_differ_from_the_peaks_of_its_factors():
    def series(lca, gradient, motion):
        of = {"LCA": lca, "gradient norm": gradient, "motion": motion}
        return [SimpleNamespace(series={name: SimpleNamespace(synchronized=[peaks]) for name, peaks in of.items()})]

    assert moments.not_by_its_factors_alone(FakeAnswers(a=series([1, 2, 3, 4, 5], [1, 2, 9], [5])), "a").agrees
    assert not moments.not_by_its_factors_alone(FakeAnswers(a=series([1, 2, 3, 4], [1, 2, 9], [5])), "a").agrees


def test_each_rule_has_its_allocation(small):
    _, names = certainty.allocations_by_rule(Archive(small, None), "mnist-fc-sgd")
    assert names == {"simpson": "train", "first-order": "first-order", "trapezoid": "trapezoid"}
