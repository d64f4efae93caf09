"""The messages of errors and their remedies, and the conversion of storage errors."""

import ast
import errno
import inspect

import pytest

import lca
from lca.errors import (
    DISK_PROBLEMS,
    SIGNATURES,
    Argument,
    Call,
    DamagedError,
    Interrupted,
    LCAError,
    UsageError,
    storage_errors,
)


def test_a_plain_message_is_unchanged():
    assert str(LCAError("it is broken")) == "it is broken"


def test_expected_and_found_make_one_sentence():
    assert str(UsageError("tolerance", expected="a positive number", found="-1")) == (
        "tolerance: expected a positive number, found -1."
    )


def test_without_a_message_the_sentence_begins_with_expected():
    assert str(LCAError(expected="501 iterates", found="401")) == "Expected 501 iterates, found 401."


@pytest.mark.parametrize("end", ["", "."])
def test_the_remedy_is_a_separate_sentence(end):
    assert str(LCAError(f"it is broken{end}", remedy="Repair it.")) == "it is broken. Repair it."
    error = LCAError("iterates", expected="2", found="1", remedy="Resume.")
    assert str(error) == "iterates: expected 2, found 1. Resume."


def test_the_parts_of_an_error_are_attributes():
    error = LCAError("iterates", expected="2", found="1", remedy="Resume.")
    assert (error.message, error.expected, error.found, error.remedy) == ("iterates", "2", "1", "Resume.")


def test_an_argument_is_written_as_in_python():
    assert str(Argument("overwrite", True)) == "overwrite=True"
    assert str(Argument("keep", "tensors")) == "keep='tensors'"
    assert str(Argument("batch_size")) == "batch_size"


def test_a_call_is_written_as_in_python():
    assert str(Call("allocate", "run.zarr")) == "lca.allocate('run.zarr', problem)"
    call = Call("allocate", "run.zarr", split="val", overwrite=True)
    assert str(call) == "lca.allocate('run.zarr', problem, split='val', overwrite=True)"
    assert str(Call("train", "run.zarr", resume=True)) == "lca.train(problem, 'run.zarr', resume=True)"
    assert str(Call("verify", "run.zarr", repair=True)) == "lca.verify('run.zarr', repair=True)"


@pytest.mark.parametrize("function", SIGNATURES)
def test_calls_in_remedies_are_valid(function):
    """Each call names a public function and matches its signature."""
    found = lca
    for name in function.split("."):
        found = getattr(found, name)
    text = str(Call(function, "run.zarr"))
    assert text.startswith(f"lca.{function}(")
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    inspect.signature(found).bind(*call.args)


def test_another_front_end_can_render_arguments_and_calls_differently():
    remedy = ("Pass ", Argument("overwrite", True), ", or ", Call("allocate", "run.zarr", split="val"), ".")
    error = UsageError("it already exists", remedy=remedy)
    assert str(error) == ("it already exists. Pass overwrite=True, or lca.allocate('run.zarr', problem, split='val').")
    as_shell = error.describe(lambda part: f"<{type(part).__name__}>")
    assert as_shell == "it already exists. Pass <Argument>, or <Call>."


def test_the_hierarchy_of_errors():
    assert issubclass(UsageError, ValueError)
    assert all(issubclass(kind, LCAError) for kind in (UsageError, DamagedError, Interrupted))


@pytest.mark.parametrize(("number", "words"), DISK_PROBLEMS.items())
def test_a_full_disk_is_an_error_with_a_remedy(number, words):
    with (
        pytest.raises(LCAError, match=f"{words}: run.zarr. Free some space.") as caught,
        storage_errors("run.zarr", "Free some space."),
    ):
        raise OSError(number, "no")
    assert isinstance(caught.value.__cause__, OSError)


def test_other_os_errors_are_not_converted():
    with pytest.raises(FileNotFoundError), storage_errors("run.zarr", "Free some space."):
        raise FileNotFoundError(errno.ENOENT, "no such file")
