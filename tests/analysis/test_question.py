"""The common interface of all questions: accepted runs, results and errors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from handmade import CONV_SIZE, CONVERGED, LCA, add_allocation, make_run, random_run

import lca
from lca.allocation.block_pass import BlockPass
from lca.analysis import (
    compare,
    curves,
    error,
    everything,
    helping,
    layers,
    loss_curve,
    neurons,
    oscillation,
    overfit,
    prune,
    subset,
    synchrony,
    tails,
    trend,
)
from lca.analysis.question import Result, Results
from lca.errors import Interrupted, LCAError, UsageError


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0, r"Finish the allocation, or replace it with lca.allocate\('.*run.zarr', problem, overwrite=True\)"),
        (3, "has no usable iteration: 4 not finite"),
    ],
)
def test_allocation_without_usable_iterations_is_an_error(tmp_path, status, message):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)), status=[status] * 4)
    for question in (helping, layers, neurons, tails):
        with pytest.raises(LCAError, match=message):
            question(run)


@pytest.mark.parametrize("question", [helping, neurons, tails, oscillation])
def test_missing_lca_is_reported_with_the_call_that_adds_it(tmp_path, question):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)), keep=False, gradient_positive=np.ones((7, 5), bool))
    with pytest.raises(
        LCAError, match=r"has no lca. Replace it with lca.allocate\('.*run.zarr', problem, keep='lca', overwrite=True\)"
    ):
        question(run)


def test_missing_allocation_is_reported_with_the_call_that_creates_it(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)))
    with pytest.raises(LCAError, match=r"no allocation 'val'; .* lca.allocate\('.*run.zarr', problem, split='val'\)"):
        layers(run, name="val")
    with pytest.raises(LCAError, match=r"no allocation 'mine'; .* lca.allocate\('.*run.zarr', problem, name='mine'\)"):
        layers(run, name="mine")


def test_allocations_of_one_run_are_independent(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 3)))
    add_allocation(run, "other", -np.ones((7, 3)))
    assert (helping(run).percentage, helping(run, name="other").percentage) == (0, 100)


def test_interrupted_allocation_is_analyzed(run, problem, monkeypatch):
    """Missing files of blocks that were not started are not reported as damage."""
    allocate_block = BlockPass._allocate_block

    def first_only(self, block, writer):
        if block:
            raise Interrupted("stopped")
        allocate_block(self, block, writer)

    monkeypatch.setattr(BlockPass, "_allocate_block", first_only)
    with pytest.raises(Interrupted):
        lca.allocate(run, problem(), lca.AllocateConfig(device="cpu", gradient_signs=True))
    opened = lca.open(run)
    assert not opened.allocation("train").complete
    for question in (helping, layers, tails, neurons, oscillation):
        assert question(opened).iterations.mask.sum() == 64
        assert question(opened).iterations.exclusions == {"not allocated": 36}
    monkeypatch.undo()
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu", gradient_signs=True))
    assert helping(lca.open(run)).iterations.mask.all()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("question")
    made = [random_run(folder / f"{i}.zarr", 70)[0] for i in range(2)]
    for run in made:
        add_allocation(run, "val", np.ones((CONV_SIZE, 70)), attributes={"split": "val"})
        add_allocation(run, "part", np.ones((CONV_SIZE, 70)), attributes={"examples": 3})
    return made


QUESTIONS = [curves, error, everything, helping, layers, loss_curve, neurons, oscillation, overfit, subset, synchrony]


@pytest.mark.parametrize("question", [*QUESTIONS, tails], ids=lambda question: question.__name__)
def test_path_run_and_list_give_the_same_result(runs, question):
    run = runs[0]
    expected = question(run)
    assert isinstance(expected, Result)
    assert repr(expected) == str(expected) == str(expected.to_answer())
    assert "\n1 run of 70 iterations" in repr(expected)
    path = str(run.path)
    assert repr(question(path)) == repr(question(Path(path))) == repr(expected)
    (only,) = question([path])
    assert repr(only) == repr(expected)


@pytest.mark.parametrize("question", [*QUESTIONS, tails], ids=lambda question: question.__name__)
def test_several_runs_give_results_with_combined_tables(runs, question):
    results = question([str(runs[0].path), runs[1]])
    assert isinstance(results, Results)
    assert len(results) == 2
    assert repr(results) == str(type(results[0]).tabulate(results))
    assert "2 runs" in repr(results)


@pytest.mark.parametrize("question", [*QUESTIONS, tails], ids=lambda question: question.__name__)
@pytest.mark.parametrize("wrong", [None, 3, [3]])
def test_other_objects_are_rejected(question, wrong):
    kind = "NoneType" if wrong is None else "int"
    with pytest.raises(
        UsageError, match=rf"runs: expected a path, an lca.Run, or a list of them, found an object of type {kind}"
    ):
        question(wrong)
    with pytest.raises(UsageError, match="runs: expected at least one run, found none"):
        question([])


def test_allocation_is_rejected_as_a_run(runs):
    with pytest.raises(UsageError, match="found an object of type Allocation"):
        layers(runs[0].allocation("train"))


def test_runs_of_different_models_are_rejected(runs, tmp_path):
    other = make_run(tmp_path / "other.zarr", LCA, status=CONVERGED)
    with pytest.raises(LCAError, match="does not match the model that"):
        layers([runs[0], other])


def test_several_runs_share_the_memory_limit(runs):
    n_units = len(neurons(runs[0]).units)
    assert len(neurons(runs[0], max_cells=20 * n_units).edges) == 19  # bins of 4 iterations
    assert all(len(result.edges) == 11 for result in neurons(runs, max_cells=20 * n_units))  # bins of 7
    assert all(len(found.answers["neurons"].edges) == 11 for found in everything(runs, max_cells=20 * n_units))
    assert len(neurons(runs, max_cells=1)[0].edges) == 2


def test_dir_lists_only_questions():
    assert set(dir(lca.analysis)) == {f.__name__ for f in (*QUESTIONS, tails, compare, prune, trend)}


def test_import_does_not_load_heavy_packages():
    heavy = ("torch", "matplotlib", "scipy.stats", "scipy.optimize", "scipy.special")
    code = f"import sys, lca.analysis; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
