"""The methods that scripts/bench/alternatives.py compares with lca are implemented as described."""

import json
import subprocess
from dataclasses import asdict, replace
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from oracles import Separable, TinyNet
from scipy import integrate, special
from torch import nn

import lca
from bench.alternatives import spread
from bench.flows import fixed_step, notebook, paper_flow, picture, reference, stages
from bench.flows.comparison import Result, methods_table, ratios
from bench.flows.fixed_step import gauss_legendre, midpoints, riemann_trapezoid
from bench.flows.full_set import FullSetGradient, Passes
from bench.flows.iterates import Iterates, copy_iterates
from bench.flows.kill import Trial, kill_and_restart
from bench.flows.stages import Cost, Task
from bench.page import run as run_onto_page
from lca.problem.losses import cross_entropy

T = 5
TRAIN, VAL = TinyNet.random(1, 61), TinyNet.random(2, 17)


def network():
    return nn.Sequential(nn.Linear(TinyNet.n_in, TinyNet.n_hidden), nn.Tanh(), nn.Linear(TinyNet.n_hidden, 2))


def full_set(net, passes=None):
    """Return the full-set gradient of a split, in float32, with an incomplete last batch."""
    return FullSetGradient(network(), cross_entropy, (net.x.float(), net.y), 13, passes)


@pytest.fixture
def walk():
    """Return iterates of shape (T + 1, K) in float32, with steps large enough that the rules differ."""
    steps = np.random.default_rng(0).standard_normal((T + 1, TinyNet.K)) * 0.4
    return np.cumsum(steps, axis=0).astype(np.float32)


def oracle(net, walk, nodes, weights):
    """Return Δ Σ w ∇L(θ + sΔ) in float64, shape (T, K), with a gradient written by hand."""

    def of_step(before, after):
        delta = after - before
        return delta * sum(w * net.gradient(before + s * delta) for s, w in zip(nodes, weights, strict=True))

    theta = torch.from_numpy(walk).double()
    return torch.stack([of_step(before, after) for before, after in pairwise(theta)]).numpy()


def simpson(net, walk):
    return oracle(net, walk, (0, 0.5, 1), (1 / 6, 4 / 6, 1 / 6))


def assert_close(found, expected):
    """Compare within the rounding error of float32."""
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_pass_computes_the_gradient_of_the_mean_over_all_examples(walk):
    gradient = full_set(TRAIN)
    for theta in walk:
        assert_close(gradient(theta), TRAIN.gradient(torch.from_numpy(theta).double()).numpy())
    assert gradient.passes.n == len(walk)
    assert gradient.passes.seconds > 0


@pytest.fixture
def paper(tmp_path, walk):
    """The files of weights and gradients that the first two passes write."""
    weights, gradients = tmp_path / "weights.h5", tmp_path / "gradients.h5"
    paper_flow.record(walk, weights)
    seconds = paper_flow.compute_gradients(weights, gradients, {"train": full_set(TRAIN), "val": full_set(VAL)})
    assert seconds["train"] > 0 < seconds["val"]
    return weights, gradients


@pytest.mark.parametrize("combine", [paper_flow.combine_whole, paper_flow.combine_streamed])
def test_flow_of_the_paper_is_simpson_for_both_splits(tmp_path, paper, walk, combine):
    combine(*paper, tmp_path / "lca.h5")
    with h5py.File(tmp_path / "lca.h5") as file:
        assert_close(file["train"][:], simpson(TRAIN, walk))
        assert_close(file["val"][:], simpson(VAL, walk))


def test_both_versions_of_the_third_pass_agree(tmp_path, paper):
    paper_flow.combine_whole(*paper, tmp_path / "whole.h5")
    paper_flow.combine_streamed(*paper, tmp_path / "streamed.h5")
    with h5py.File(tmp_path / "whole.h5") as whole, h5py.File(tmp_path / "streamed.h5") as streamed:
        for split in ("train", "val"):
            np.testing.assert_array_equal(streamed[split][:], whole[split][:])


def test_files_of_the_paper_contain_weights_and_gradients(paper, walk):
    weights, gradients = paper
    with h5py.File(weights) as file:
        assert (file["weights"].dtype, file["weights"].compression) == (np.float64, "gzip")
        np.testing.assert_array_equal(file["weights"][:], walk)
    with h5py.File(gradients) as file:
        for split in ("train", "val"):
            stored = file[split]
            assert (stored.shape, stored.dtype) == ((2 * T + 1, TinyNet.K), np.float32)
            assert stored.compression == "gzip"
        assert paper_flow.stored_bytes(gradients, "val") == file["val"].id.get_storage_size() > 0
    assert paper_flow.stored_bytes(weights, "val") == 0


def test_notebook_is_first_order(walk):
    assert_close(notebook.first_order(full_set(TRAIN), list(walk)), oracle(TRAIN, walk, [0], [1]))


def test_weights_of_captum_trapezoid_sum_to_less_than_1():
    rule = riemann_trapezoid(10)
    np.testing.assert_allclose(rule.nodes, [k / 9 for k in range(10)], atol=1e-15)
    np.testing.assert_allclose(rule.weights, [0.05, *[0.1] * 8, 0.05])
    assert riemann_trapezoid(100).weights.sum() == pytest.approx(0.99)


@pytest.mark.parametrize("n", [1, 10, 100])
def test_default_of_captum_is_gauss_legendre(n):
    nodes, weights = special.roots_sh_legendre(n)
    rule = gauss_legendre(n)
    np.testing.assert_allclose(rule.nodes, nodes, atol=1e-12)
    np.testing.assert_allclose(rule.weights, weights, atol=1e-12)


def test_points_of_explaind_are_midpoints_of_equal_steps():
    rule = fixed_step.RULES["explaind-100"]
    np.testing.assert_allclose(rule.nodes, np.linspace(0.005, 0.995, 100))
    np.testing.assert_allclose(rule.weights, 0.01)


SEPARABLE = Separable(torch.linspace(-1, 1, 9, dtype=torch.float64))
THETA0 = torch.linspace(-1, 2, 9, dtype=torch.float64).numpy()
THETA1 = torch.linspace(1.5, -0.5, 9, dtype=torch.float64).numpy()
EXACT = SEPARABLE.allocation(torch.from_numpy(THETA0), torch.from_numpy(THETA1)).numpy()


def by_hand(theta):
    return SEPARABLE.gradient(torch.from_numpy(theta)).numpy()


def test_gauss_legendre_allocates_exactly():
    np.testing.assert_allclose(fixed_step.allocate(by_hand, THETA0, THETA1, gauss_legendre(10)), EXACT, atol=1e-12)


def test_midpoint_rule_converges_with_order_2():
    n = [10, 20, 40, 80]
    errors = [np.abs(fixed_step.allocate(by_hand, THETA0, THETA1, midpoints(k)) - EXACT).sum() for k in n]
    assert np.polyfit(np.log(n), np.log(errors), 1)[0] == pytest.approx(-2, abs=0.05)


def test_captum_trapezoid_converges_like_the_sum_of_its_weights():
    for n in (100, 1_000):
        found = fixed_step.allocate(by_hand, THETA0, THETA1, riemann_trapezoid(n))
        np.testing.assert_allclose(found / (1 - 1 / n), EXACT, atol=1e-3)
        assert np.abs(found - EXACT).sum() / np.abs(EXACT).sum() == pytest.approx(1 / n, rel=0.05)


def test_reference_is_composite_simpson_with_64_and_32_subintervals():
    rule = reference.composite_simpson(8)
    np.testing.assert_allclose(
        (rule.weights * np.exp(rule.nodes)).sum(), integrate.simpson(np.exp(rule.nodes), dx=1 / 8)
    )
    half, whole = reference.allocate(by_hand, THETA0, THETA1)
    np.testing.assert_allclose(whole, EXACT, atol=1e-6)
    by_rule = fixed_step.allocate(by_hand, THETA0, THETA1, reference.composite_simpson(32))
    np.testing.assert_allclose(half, by_rule, atol=1e-12)
    assert np.abs(whole - EXACT).sum() < np.abs(half - EXACT).sum() / 8


def test_iterates_read_from_a_file_equal_those_of_the_run(tmp_path, run):
    recorded = lca.open(run)
    iterates = copy_iterates(recorded, tmp_path / "iterates.f32")
    assert len(iterates) == 101
    np.testing.assert_array_equal(np.stack(list(iterates)), recorded.weights[:].T)
    np.testing.assert_array_equal(iterates[70], recorded.weights[:, 70])


@pytest.fixture
def task(tmp_path, walk, monkeypatch):
    """A task on a tiny network instead of mnist-fc, with two sampled iterations."""
    walk.tofile(tmp_path / "iterates.f32")

    def tiny(*_):
        train, val = ((net.x.float(), net.y) for net in (TRAIN, VAL))
        return lca.Problem(network(), train=train, val=val)

    monkeypatch.setattr(stages, "load_problem", tiny)
    batch_format = {"batch_size": 13, "channels_last": False}
    return Task("", str(tmp_path / "method"), str(tmp_path / "iterates.f32"), TinyNet.K, [1, 4], batch_format)


PAPER = ("paper-record", "paper-gradients")
QUADRATURES = {
    (*PAPER, "paper-whole"): ((0, 0.5, 1), (1 / 6, 4 / 6, 1 / 6)),
    (*PAPER, "paper-streamed"): ((0, 0.5, 1), (1 / 6, 4 / 6, 1 / 6)),
    ("notebook",): ([0], [1]),
    **{(name,): (rule.nodes, rule.weights) for name, rule in fixed_step.RULES.items()},
}


@pytest.mark.parametrize("names", QUADRATURES, ids=lambda names: names[-1])
def test_each_method_reports_its_cost_and_writes_its_sample(task, walk, names):
    cost = Cost()
    for name in names:
        cost += Cost(**json.loads(stages.work(json.dumps(asdict(replace(task, stage=name))))))
    assert_close(np.load(task.sample_file), oracle(TRAIN, walk, *QUADRATURES[names])[task.sample])
    passes = {"paper-whole": 2 * T + 1, "paper-streamed": 2 * T + 1, "notebook": T}
    assert cost.n_passes == passes.get(names[-1], 2 * len(QUADRATURES[names][0]))
    assert cost.n_val_passes == (2 * T + 1 if names[0] == "paper-record" else 0)
    assert (cost.val_s > 0) == (names[0] == "paper-record")
    assert min(cost.recording_s, cost.passes_s, cost.rest_s, cost.peak) > 0


def test_lca_reports_its_cost_and_writes_its_sample(task, walk):
    cost = sum((stages.STAGES[name](task) for name in ("lca-record", "lca-allocate")), Cost())
    np.testing.assert_array_equal(lca.open(task.path / "run.zarr").weights[:].T, walk)
    exact = torch.stack([TRAIN.allocation(a, b) for a, b in pairwise(torch.from_numpy(walk).double())]).numpy()
    found = np.load(task.sample_file)
    assert np.abs(found - exact[task.sample]).sum() < 0.01 * np.abs(exact[task.sample]).sum()
    assert cost.n_passes >= 2 * T + 1 + 6 * T  # an audit has at least 8 subintervals, of which 2 already exist
    assert min(cost.recording_s, cost.passes_s, cost.rest_s) > 0


def test_process_kills_itself_after_the_given_passes(monkeypatch):
    killed = []
    monkeypatch.setattr("os.kill", lambda _, number: killed.append(number))
    passes = Passes(kill_at=2)
    for n in (0, 1, 0):
        with passes.one():
            assert len(killed) == (n == 0 and passes.n == 2)
    assert [number.name for number in killed] == ["SIGKILL"]


@pytest.mark.parametrize(("again", "resumes"), [(400, False), (160, True)])
def test_trial_counts_the_passes_of_the_second_start(task, monkeypatch, again, resumes):
    done = []

    def run(task):
        done.append((task.stage, task.folder.rpartition("-")[2], task.kill_at))
        if task.kill_at:
            raise subprocess.CalledProcessError(-9, "killed")
        return Cost(n_passes=400 if done.count(done[-1]) == 1 and task.folder.endswith("whole") else again)

    monkeypatch.setattr("bench.flows.kill.run", run)
    trial = kill_and_restart(("record", "long"), task)
    assert trial == Trial(400, again)
    assert trial.resumes == resumes
    killed = [(stage, limit) for stage, which, limit in done if which == "killed"]
    assert killed == [("record", None), ("long", 300), ("long", None)]


def test_costs_of_stages_add_up_except_for_the_peak():
    assert Cost(1, 2, 3, 4, 5, 6, 70) + Cost(1, 1, 1, 1, 1, 1, 80) == Cost(2, 3, 4, 5, 6, 7, 80)


def result(seconds, disk, peak, val_s=0.0, val_disk=0.0):
    return Result(Cost(0.1, seconds - 0.2, 0.1, val_s, peak=peak), disk, val_disk, (0.4, 0.6), False, None, [0.1, 0.3])


def test_ratios_meet_or_miss_their_bounds():
    found = {each.what: each for each in ratios(result(2, 5, 900), "paper", result(3, 20, 3_000, 1.0, 8.0))}
    assert found["seconds per iteration"].ratio == pytest.approx(2 / 3)
    assert found["seconds per iteration"].verdict == "met"
    assert found["seconds per iteration, train alone"].ratio == pytest.approx(1)
    assert found["bytes on disk"].verdict == "met"  # exactly at the bound
    assert found["bytes on disk, train alone"].ratio == pytest.approx(5 / 12)
    assert found["bare passes per iteration"].other == pytest.approx(6)
    assert found["peak memory"].verdict == "missed"
    assert "no" in methods_table({"paper": replace(result(3, 20, 3_000), sign_error=[0.0, 0.02])})


def test_iterations_are_sampled_evenly():
    assert spread(880, 6) == [73, 220, 366, 513, 660, 806]
    assert spread(2, 6) == [0, 1]


def test_labels_overlap_neither_each_other_nor_a_point(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(picture, "save", lambda figure, path: figures.append(figure))
    methods = [("paper, whole arrays", 0.55, 0.21), ("paper, streamed", 0.56, 0.21), ("lca", 0.41, 0.21)]
    methods += [("gausslegendre-100", 19, 0.021), ("explaind-100", 19, 0.02), ("notebook", 0.19, 45)]
    picture.draw([picture.Point(*method) for method in methods], 0.016, "", tmp_path / "picture.png")
    (figure,) = figures
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == sorted(
        [name for name, *_ in methods] + ["error of the reference"]
    )
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    points = axes.transData.transform([point for _, *point in methods])
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_page_keeps_the_output_of_a_failed_script(tmp_path, monkeypatch):
    (tmp_path / "fails.py").write_text("print('a line')\nraise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (tmp_path / "page.txt").open("w") as page, pytest.raises(subprocess.CalledProcessError):
        run_onto_page(["fails"], page)
    assert (tmp_path / "page.txt").read_text() == "a line\n"


def test_row_outside_the_file_is_refused(tmp_path):
    np.arange(6, dtype=np.float32).tofile(tmp_path / "rows")
    iterates = Iterates(tmp_path / "rows", 2)
    assert [row.tolist() for row in iterates] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(IndexError):
        iterates[3]
