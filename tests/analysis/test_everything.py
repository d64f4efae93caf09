"""All questions at once give what each gives alone; what the store lacks is named."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from handmade import add_allocation
from test_tiles import random_run

import lca.analysis as analysis
from lca.analysis._everything import everything, report


def same(a, b):
    """Whether two answers are equal, NaN being equal to itself."""
    if is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b or (a != a and b != b)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run, made = random_run(tmp_path_factory.mktemp("everything") / "run.zarr")
    lca, T = np.nan_to_num(made["lca"]), 300
    status = np.ones(T)
    status[3] = 0
    add_allocation(run, "val", lca * 0.9, attributes={"split": "val"}, status=status)
    add_allocation(run, "part", lca + 1e-3, attributes={"examples": 3})
    return run


@pytest.mark.parametrize(
    "question",
    ["helping", "layers", "neurons", "oscillation", "tails", "overfit", "error", "subset", "synchrony"],
)
def test_each_answer_is_that_of_the_question_alone(run, question):
    found = everything(run)
    assert same(found.answers[question], getattr(analysis, question)(run))
    assert question not in found.unanswered


def test_unconverged_iterations_are_counted_if_asked_for(run):
    for question in ("helping", "oscillation", "tails", "overfit"):
        found = everything(run, unconverged=True).answers[question]
        assert same(found, getattr(analysis, question)(run, unconverged=True))
        assert not same(found, getattr(analysis, question)(run))


def test_the_reports_come_in_order(run):
    reports, unanswered = report([everything(run)] * 2, ["a", "b"])
    assert set(unanswered) == {"prune", "synchrony by class"}
    assert unanswered["prune"] == f"it takes the model: `lca analyze prune {run.path}`; so it is with b"
    order = ["helping", "layers", "neurons", "oscillation", "tails", "synchrony", "overfit", "error", "subset"]
    assert [of.question for of in reports] == order


def test_what_is_lacking_is_named_with_its_command(tmp_path):
    run, made = random_run(tmp_path / "run.zarr", 70)
    add_allocation(run, "sums", made["lca"], keep=False)
    found = everything(run, "sums")
    assert set(found.answers) == {"layers", "error", "synchrony"}
    assert set(found.unanswered) >= {"helping", "neurons", "oscillation", "tails", "overfit", "subset", "prune"}
    assert f"`lca allocate {run.path} --split val`" in found.unanswered["overfit"]
    assert f"`lca allocate {run.path} --name sums --keep lca --overwrite`" in found.unanswered["helping"]
    assert f"`lca allocate {run.path} --by-class --overwrite`" in everything(run).unanswered["synchrony by class"]


def test_a_part_of_the_iterations_is_no_hindrance(tmp_path):
    run, made = random_run(tmp_path / "run.zarr", 70)
    status = np.zeros(70)
    status[::10] = 1
    add_allocation(run, "some", made["lca"], status=status)
    found = everything(run, "some")
    assert "no three successive iterations" in found.unanswered["synchrony"]
    assert "--name some --gradient-signs --overwrite`" in found.unanswered["crossings of the gradient"]
    assert found.answers["helping"].iterations.n == 7


def test_a_question_that_one_run_cannot_answer_does_not_hinder_the_others(tmp_path, run):
    other, made = random_run(tmp_path / "run.zarr", 70)
    add_allocation(other, "val", made["lca"], status=[2] * 70, attributes={"split": "val"})
    lacking = everything(other).unanswered
    assert "did not converge" in lacking["overfit"]
    assert "no allocation over a part of the examples" in lacking["subset"]
    reports, unanswered = report([everything(run), everything(other)], ["a", "b"])
    order = ["helping", "layers", "neurons", "oscillation", "tails", "synchrony", "error"]
    assert [of.question for of in reports] == order
    assert "did not converge" in unanswered["overfit"]


def test_val_is_held_out_rather_than_test_and_only_from_train(tmp_path):
    run, made = random_run(tmp_path / "run.zarr", 70)
    for split in ("test", "val"):
        add_allocation(run, split, np.nan_to_num(made["lca"]), attributes={"split": split})
    assert everything(run).answers["overfit"].names == ("train", "val")
    assert "overfit" not in everything(run, "val").answers
