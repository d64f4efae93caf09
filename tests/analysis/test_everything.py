"""Asking all questions at once equals asking each separately, and missing arrays are reported."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from handmade import add_allocation, random_run

import lca.analysis as analysis
from lca.analysis._everything import combine, everything


def same(a, b):
    """Return whether two results are equal, treating NaN as equal to itself."""
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
def test_each_answer_equals_the_separate_question(run, question):
    found = everything(run)
    assert same(found.answers[question], getattr(analysis, question)(run))
    assert question not in found.unanswered


def test_answers_have_a_fixed_order(run):
    found = combine(everything([run, run]))
    assert set(found.unanswered) == {"prune", "synchrony by class"}
    prune = f"lca.analysis.prune('{run.path}', evaluate)"
    assert (
        str(found.unanswered["prune"])
        == f"it needs the model. Ask this question with {prune}. The same holds for {run.path}."
    )
    order = ["helping", "layers", "neurons", "oscillation", "tails", "synchrony", "overfit", "error", "subset"]
    assert [answer.question for answer in found.answers] == order


def test_missing_arrays_are_reported_with_the_call_that_adds_them(tmp_path):
    run, made = random_run(tmp_path / "run.zarr", 70)
    add_allocation(run, "sums", made["lca"], keep=False)
    found = everything(run, name="sums")
    assert set(found.answers) == {"layers", "error", "synchrony"}
    assert set(found.unanswered) >= {"helping", "neurons", "oscillation", "tails", "overfit", "subset", "prune"}
    unanswered = {
        question: str(lacking) for question, lacking in (everything(run).unanswered | found.unanswered).items()
    }
    assert f"lca.allocate('{run.path}', problem, split='val')" in unanswered["overfit"]
    assert f"('{run.path}', problem, name='sums', keep='lca', overwrite=True)" in unanswered["helping"]
    assert f"('{run.path}', problem, name='sums', by_class=True, overwrite=True)" in unanswered["synchrony by class"]
    shell = found.unanswered["overfit"].describe(lambda call: f"`{call.function} {call.path} {call.arguments}`")
    assert f"Allocate one with `allocate {run.path} (Argument(name='split', value='val'),)`." in shell


def test_partial_allocation_is_analyzed(tmp_path):
    run, made = random_run(tmp_path / "run.zarr", 70)
    status = np.zeros(70)
    status[::10] = 1
    add_allocation(run, "some", made["lca"], status=status)
    found = everything(run, name="some")
    assert "does not have three consecutive usable iterations" in str(found.unanswered["synchrony"])
    crossings = str(found.unanswered["crossings of the gradient"])
    assert "name='some', gradient_signs=True, overwrite=True)" in crossings
    assert found.answers["helping"].iterations.n == 7


def test_question_that_fails_for_one_run_does_not_affect_others(tmp_path, run):
    other, made = random_run(tmp_path / "run.zarr", 70)
    add_allocation(other, "val", made["lca"], status=[3] * 70, attributes={"split": "val"})
    lacking = everything(other).unanswered
    assert "no usable iteration: 70 not finite" in str(lacking["overfit"])
    assert "no allocation over a subset of the examples" in str(lacking["subset"])
    found = combine(everything([run, other]))
    order = ["helping", "layers", "neurons", "oscillation", "tails", "synchrony", "error"]
    assert [answer.question for answer in found.answers] == order
    assert "70 not finite" in str(found.unanswered["overfit"])


def test_overfit_prefers_val_and_requires_train(tmp_path):
    run, made = random_run(tmp_path / "run.zarr", 70)
    for split in ("test", "val"):
        add_allocation(run, split, np.nan_to_num(made["lca"]), attributes={"split": split})
    assert everything(run).answers["overfit"].names == ("train", "val")
    assert "overfit" not in everything(run, name="val").answers


def test_everything_contains_the_tables_of_all_questions(run):
    results = everything([run, run])
    answer, found = results.to_answer(), combine(results)
    assert repr(results) == str(answer)
    assert len(answer.tables) == sum(len(of.tables) for of in found.answers)
    assert any(table.title == "helping: by tensor" for table in answer.tables)
    assert any(note.startswith("prune: not answered, because it needs the model.") for note in answer.notes)
    assert set(answer.to_json()) > {"helping", "layers", "tails"}
