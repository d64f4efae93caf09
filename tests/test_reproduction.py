"""The reproduction of the paper: its tables fit together, it makes only what is missing, and its page is honest."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import reproduce_paper
from paper import findings
from paper.archive import Archive
from paper.drawings import DRAWINGS, FILMS
from paper.experiments import EXPERIMENTS, SCALES, Experiment, Size
from paper.findings import FINDINGS, Finding, Measured
from paper.making import forecast, make, plan
from paper.page import row_of, write_page

import lca
from lca.errors import LCAError
from lca.workers import workers
from lca.zoo.presets import PRESETS

SMALL = {**SCALES["smoke"], "mnist-fc": Size("digits-fc", iterations=12, runs=2, subsets=(100, 300, 800))}


def every(name):
    return True


def made(works, name):
    with workers() as team:
        for work in works[name]:
            make(work, None, team, progress=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The runs of mnist-fc-sgd, tiny, and a plan of all."""
    works = plan(SMALL, tmp_path_factory.mktemp("reproduction"), every)
    made(works, "mnist-fc-sgd")
    return works


def test_every_scale_has_a_size_for_every_problem_of_the_table():
    for sizes in SCALES.values():
        assert {experiment.problem for experiment in EXPERIMENTS} == set(sizes)
        for name, size in sizes.items():
            problem = size.problem or name
            assert problem in PRESETS or Path(problem.partition(":")[0]).exists()


def test_names_of_experiments_are_told_apart():
    names = [experiment.name for experiment in EXPERIMENTS]
    assert len(set(names)) == len(names)


def test_every_figure_of_a_finding_can_be_drawn_and_every_drawing_is_of_a_finding():
    assert {name for finding in FINDINGS for name in finding.figures} == {*DRAWINGS, *FILMS}


def test_at_the_scale_of_the_paper_nothing_is_left_out():
    for size in SCALES["paper"].values():
        assert size.problem is None
        assert size.iterations is None
        assert size.whole is None
        assert set(size.train) <= {"keep_bits"}


@pytest.mark.parametrize("scale", SCALES)
def test_a_plan_has_the_runs_of_the_table(scale, tmp_path):
    works = plan(SCALES[scale], tmp_path, every)
    assert list(works) == [experiment.name for experiment in EXPERIMENTS]
    for experiment in EXPERIMENTS:
        runs = works[experiment.name]
        assert len(runs) == min(experiment.runs, SCALES[scale][experiment.problem].runs)
        assert [work.training.seed for work in runs] == list(range(len(runs)))
        assert all(work.missing == list(work.allocations) for work in runs)
        for work in runs:
            for name in work.allocations:
                work.config(name).range(work.training.iterations)  # in range


def test_what_is_made_is_not_made_again(small):
    work = small["mnist-fc-sgd"][0]
    assert work.missing == []
    assert set(work.allocations) == {
        "train", "first-order", "trapezoid", "val", "subset-100", "subset-300", "subset-800"
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in work.path.rglob("*") if path.is_file()}
    made(small, "mnist-fc-sgd")
    assert {path: path.stat().st_mtime_ns for path in work.path.rglob("*") if path.is_file()} == before


def test_only_what_is_missing_is_made(tmp_path):
    works = plan(SMALL, tmp_path, lambda name: name == "mnist-fc-plain")
    work = works["mnist-fc-plain"][0]
    problem = lca.load("digits-fc")
    lca.train(problem, work.path, work.training)
    weights = (work.path / "weights" / "zarr.json").stat().st_mtime_ns
    assert work.missing == ["train"]
    made(works, "mnist-fc-plain")
    assert work.missing == []
    assert (work.path / "weights" / "zarr.json").stat().st_mtime_ns == weights


def test_runs_of_another_table_are_refused(small):
    work = small["mnist-fc-sgd"][0]
    other = plan({**SMALL, "mnist-fc": Size("digits-fc", iterations=13)}, work.path.parent, every)["mnist-fc-sgd"][0]
    with pytest.raises(LCAError, match="was made with iterations 12, and 13 is wanted now"):
        _ = other.missing


def test_allocations_of_another_table_are_refused(small):
    path = small["mnist-fc-sgd"][0].path
    sizes = {**SMALL, "mnist-fc": Size("digits-fc", iterations=12, train={"rule": "trapezoid"})}
    other = plan(sizes, path.parent, every)["mnist-fc-sgd"][0]
    with pytest.raises(LCAError, match="train, was made with rule 'simpson', and 'trapezoid' is wanted now"):
        _ = other.missing


def test_one_experiment_that_fails_is_told_and_the_others_are_made(tmp_path, capsys):
    sizes = {**SMALL, "mnist-fc": Size("digits-fc", iterations=5, runs=1, subsets=(9_999,))}
    works = plan(sizes, tmp_path, lambda name: name in ("mnist-fc-sgd", "mnist-fc-adam"))
    with workers() as team:
        failures = reproduce_paper.make_all(works, None, team)
    assert list(failures) == ["mnist-fc-sgd"]
    assert "9,999 examples were asked for; the train split of digits-fc has 1,500" in failures["mnist-fc-sgd"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  1/2  mnist-fc-sgd                    failed: 9,999 examples")
    assert re.fullmatch(r"  2/2  mnist-fc-adam                   1 run, 1 allocation: \d+ s", lines[1])
    assert works["mnist-fc-sgd"][0].missing == ["subset-9999"]  # what was made before it is kept


def test_a_forecast_is_of_what_is_missing(small):
    works = small["mnist-fc-sgd"]
    nothing = forecast(works, None)
    assert (nothing.seconds, nothing.n_bytes, nothing.n_missing, nothing.n_runs) == (0, 0, 0, 2)
    something = forecast([*works, *small["mnist-fc-adam"]], None)
    assert something.n_missing == 2
    assert something.seconds > 0
    K, T = 2_778, 12
    assert something.n_bytes == pytest.approx(2 * 4 * K * ((T + 1) * 0.55 + T * 0.78))


def test_a_page_of_nothing_has_every_finding_and_agrees_with_none(tmp_path):
    told = write_page(plan(SMALL, tmp_path / "runs", every), tmp_path, "smoke", None, {})
    assert f"{len(FINDINGS)} findings, 0 agree, 0 differ, 0 open, {len(FINDINGS)} not run" in told
    rows = [line for line in (tmp_path / "index.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(FINDINGS) + 2


class Counted(HTMLParser):
    """Counts tags, and keeps what pictures and films are of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.sources = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name == "src"]


def test_a_page_has_what_is_there(small, tmp_path):
    write_page(small, tmp_path, "smoke", None, {"mnist-lenet-sgd": "it <failed>"})
    page = (tmp_path / "index.html").read_text()
    assert "it &lt;failed&gt;" in page
    parsed = Counted(page)
    assert parsed.tags.count("tr") == len(FINDINGS) + 1
    assert {Path(source).stem for source in parsed.sources} >= {"layers-mnist-fc", "peaks-by-class", "film-mnist-fc"}
    assert all((tmp_path / source).stat().st_size > 1_000 for source in parsed.sources)
    percentages = [lca.analysis.helping(lca.open(work.path)).percentage for work in small["mnist-fc-sgd"]]
    told = f"{np.mean(percentages):.2f} ± {np.std(percentages, ddof=1):.2f} %"
    markdown = (tmp_path / "index.md").read_text()
    row = next(line for line in markdown.splitlines() if "MNIST–FC, SGD: 57.79" in line)
    assert told in row
    assert "2 runs, digits-fc, all of 12 iterations, all 1,500 examples, cpu" in row
    verdict = "agrees" if abs(np.mean(percentages) - 57.79) <= 1 else "differs"
    assert f"| {verdict} |" in row
    assert re.search(r"mnist-lenet-sgd has no run with a finished allocation .* not run", markdown)


def test_a_row_says_how_much_it_is_based_on(tmp_path):
    experiment = Experiment("mnist-fc-plain", "mnist-fc")
    sizes = {
        **SMALL,
        "mnist-fc": Size("digits-fc", iterations=12, runs=1, train={"examples": 200, "iterations": "1::4"}),
    }
    works = plan(sizes, tmp_path, lambda name: name == experiment.name)
    made(works, experiment.name)
    finding = Finding("", "", "", lambda archive: Measured(str(archive.layers(experiment.name)[0].iterations.n), True))
    row = row_of(finding, Archive(works, None), tmp_path, {})
    assert row.told == "3"
    assert row.basis == "1 run, digits-fc, 3 of 12 iterations, 200 of 1,500 examples, cpu"


class Told:
    """Stands for an archive in which the totals of the layers are these, (run, layer) by experiment."""

    def __init__(self, **totals):
        self.of = {name.replace("_", "-"): np.array(values) for name, values in totals.items()}

    def totals(self, experiment):
        return self.of[experiment]

    def layer_names(self, experiment):
        return [f"layer{i}" for i in range(self.of[experiment].shape[1])]


HURTING = [[0.10, -1.0, -0.5, 0.20], [0.11, -1.1, -0.4, 0.19], [0.12, -0.9, -0.6, 0.22]]
UNCLEAR = [[0.10, -1.0, 0.5, -0.20], [-0.09, -1.1, -0.4, 0.25], [0.01, -0.9, -0.6, 0.02]]


def test_layers_that_hurt():
    archive = Told(a=HURTING, b=UNCLEAR)
    assert findings.first_and_last_hurt(archive, "a").agrees
    assert findings.others_help(archive, "a").agrees
    assert findings.last_hurts(archive, "a").agrees
    assert not findings.first_and_last_hurt(archive, "b").agrees
    assert findings.others_help(archive, "b") == Measured("1 of 2; not layer2", False)
    assert not findings.last_hurts(archive, "b").agrees
    assert not findings.all_help(archive, "a").agrees
    assert findings.hurting_layers(archive, ["a"], 2, 99).agrees
    assert findings.hurting_layers(archive, ["a"], 0, 0) == Measured("a: layer0 +0.1100, layer3 +0.2033, of 4", False)


def test_two_runs_agree_only_if_both_do():
    assert findings.clearly(np.array([0.1, 0.2]), +1)
    assert not findings.clearly(np.array([0.1, -0.01]), +1)
    assert findings.clearly(np.array([-0.1, -0.2]), -1)


def test_other_layers_help_less():
    regular = [[0.2, -1.0, -1.0], [0.2, -1.1, -1.0], [0.2, -1.0, -1.1]]
    frozen = [[0.0, -0.7, -0.9], [0.0, -0.8, -0.9], [0.0, -0.8, -0.8]]
    archive = Told(cifar_resnet_sgd=regular, less=frozen, more=[[0, -2, -2.1], [0, -2, -2.2], [0, -2, -2.3]])
    assert findings.others_help_less(archive, "less", layer=0).agrees
    assert findings.others_help_less(archive, "more", layer=0).agrees is False
    assert findings.others_help_less(Told(cifar_resnet_sgd=regular[:1], less=frozen), "less", 0).agrees is None


def test_the_slow_layer_is_compared_with_both():
    near = Told(
        cifar_resnet_sgd=[[-1.0, 0.2]], cifar_resnet_last_frozen=[[-0.8, 0.0]], cifar_resnet_last_slow=[[-0.8, 0.05]]
    )
    far = Told(
        cifar_resnet_sgd=[[-1.0, 0.2]], cifar_resnet_last_frozen=[[-0.8, 0.0]], cifar_resnet_last_slow=[[-1.0, 0.19]]
    )
    assert findings.slow_as_frozen(near).agrees
    assert not findings.slow_as_frozen(far).agrees


class Percentages:
    """Stands for an archive in which these percentages help, by experiment."""

    def __init__(self, percentages):
        self.percentages = percentages

    def helping(self, experiment):
        values = self.percentages[experiment]
        return [type("Result", (), {"percentage": value, "loss": np.array([1.0, 0.1])}) for value in values]


def test_percentages_agree_within_their_tolerance():
    archive = Percentages({"a": [57.0, 58.0, 59.0], "b": [50.0]})
    assert findings.helping_near(archive, "a", 57.2, 1.0) == Measured("58.00 ± 1.00 %", True)
    assert findings.helping_near(archive, "a", 56.9, 1.0).agrees is False
    assert findings.all_within(archive, ["a", "b"], 50, 58).agrees
    assert findings.all_within(archive, ["a", "b"], 50.5, 58).agrees is False


def test_a_curve_over_learning_rates_goes_through_the_regular_runs():
    rates = {f"mnist-fc-plain-rate-{rate:g}": [60 - 10 * rate] for rate in findings.RATES["plain"]}
    archive = Percentages({**rates, "mnist-fc-plain": [57.0, 59.0]})
    measured = findings.helping_by_rate(archive, "plain", 0.2, 55.5)
    assert measured == Measured("59.5 % at 0.05, 59.0 % at 0.1, 58.0 % at 0.2, 55.0 % at 0.5", True)
    assert not findings.helping_by_rate(archive, "plain", 0.2, 54.9).agrees
