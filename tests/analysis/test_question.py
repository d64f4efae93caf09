"""What all questions share: what they accept, what they return and how they fail."""

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
        (2, "To count the 4 that did not converge, pass unconverged=True"),
    ],
)
def test_nothing_is_no_answer(tmp_path, status, message):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)), status=[status] * 4)
    for question in (helping, layers, neurons, tails):
        with pytest.raises(LCAError, match=message):
            question(run)


@pytest.mark.parametrize("question", [helping, neurons, tails, oscillation])
def test_an_allocation_without_the_parts_names_the_call_that_keeps_them(tmp_path, question):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)), keep=False, gradient_positive=np.ones((7, 5), bool))
    with pytest.raises(
        LCAError, match=r"has no lca. Replace it with lca.allocate\('.*run.zarr', problem, keep='lca', overwrite=True\)"
    ):
        question(run)


def test_a_missing_allocation_is_named_with_the_call_that_creates_it(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 4)))
    with pytest.raises(LCAError, match=r"no allocation 'val'; .* lca.allocate\('.*run.zarr', problem, split='val'\)"):
        layers(run, name="val")
    with pytest.raises(LCAError, match=r"no allocation 'mine'; .* lca.allocate\('.*run.zarr', problem, name='mine'\)"):
        layers(run, name="mine")


def test_several_allocations_of_one_run_are_apart(tmp_path):
    run = make_run(tmp_path / "run.zarr", np.ones((7, 3)))
    add_allocation(run, "other", -np.ones((7, 3)))
    assert (helping(run).percentage, helping(run, name="other").percentage) == (0, 100)


def test_an_interrupted_allocation_answers_for_what_there_is(run, problem, monkeypatch):
    """Files of blocks that were not begun are not lost ones."""
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
        assert question(opened).iterations.counted.sum() == 64
        assert question(opened).iterations.left_out == {"not allocated": 36}
    monkeypatch.undo()
    lca.allocate(run, problem(), lca.AllocateConfig(device="cpu", gradient_signs=True))
    assert helping(lca.open(run)).iterations.counted.all()


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
def test_a_path_a_run_and_a_list_have_the_same_answer(runs, question):
    run = runs[0]
    expected = question(run)
    assert isinstance(expected, Result)
    assert repr(expected) == str(expected) == str(expected.to_answer())
    assert repr(expected).endswith(("1 run", "not finite", "not converged", "not allocated"))
    path = str(run.path)
    assert repr(question(path)) == repr(question(Path(path))) == repr(expected)
    (only,) = question([path])
    assert repr(only) == repr(expected)


@pytest.mark.parametrize("question", [*QUESTIONS, tails], ids=lambda question: question.__name__)
def test_several_runs_have_results_with_a_table_over_all(runs, question):
    results = question([str(runs[0].path), runs[1]])
    assert isinstance(results, Results)
    assert len(results) == 2
    assert repr(results) == str(type(results[0]).tabulate(results))
    assert "2 runs" in repr(results)


@pytest.mark.parametrize("question", [*QUESTIONS, tails], ids=lambda question: question.__name__)
@pytest.mark.parametrize("wrong", [None, 3, [3]])
def test_something_else_than_a_run_is_refused(question, wrong):
    kind = "NoneType" if wrong is None else "int"
    with pytest.raises(
        UsageError, match=rf"runs: expected a path, an lca.Run, or a list of them, found an object of type {kind}"
    ):
        question(wrong)
    with pytest.raises(UsageError, match="runs: expected at least one run, found none"):
        question([])


def test_an_allocation_is_not_a_run(runs):
    with pytest.raises(UsageError, match="found an object of type Allocation"):
        layers(runs[0].allocation("train"))


def test_runs_of_different_models_are_refused(runs, tmp_path):
    other = make_run(tmp_path / "other.zarr", LCA, status=CONVERGED)
    with pytest.raises(LCAError, match="is not the model that"):
        layers([runs[0], other])


def test_several_runs_share_the_memory(runs):
    n_units = len(neurons(runs[0]).units)
    assert len(neurons(runs[0], max_cells=20 * n_units).edges) == 19  # bins of 4 iterations
    assert all(len(result.edges) == 11 for result in neurons(runs, max_cells=20 * n_units))  # bins of 7
    assert all(len(found.answers["neurons"].edges) == 11 for found in everything(runs, max_cells=20 * n_units))
    assert len(neurons(runs, max_cells=1)[0].edges) == 2


def test_only_questions_are_listed():
    assert set(dir(lca.analysis)) == {f.__name__ for f in (*QUESTIONS, tails, compare, prune, trend)}


def test_importing_the_questions_is_cheap():
    heavy = ("torch", "matplotlib", "scipy.stats", "scipy.optimize", "scipy.special")
    code = f"import sys, lca.analysis; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
