"""User-defined problems are found and called with their options, and errors in them are reported."""

import multiprocessing

import pytest
import torch

import lca
from lca.errors import LCAError, UsageError
from lca.problem.loading import is_problem
from lca.problem.user_code import _import_file


@pytest.mark.parametrize(
    "name", ["mine.py:problem", "{folder}/mine.py:problem", "mine:problem", "package.module:problem"]
)
def test_function_is_found_in_a_file_or_a_module(folder, name):
    name = name.format(folder=folder)
    problem = lca.load(name, options={"hidden": "6", "rate": "1", "wide": "true"})
    assert (problem.name, problem.options) == (name, {"hidden": 6, "rate": 1.0, "wide": True})
    assert problem.model[0].weight.shape == (6, 2)


def test_seed_sets_the_weights_but_not_the_callers_random_state(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (lca.load("mine.py:problem", seed=seed).model[0].weight for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        (
            "nowhere.py:problem",
            {},
            UsageError,
            r"nowhere.py does not exist \(looked in .*\). Name the problem as path/file.py:factory or package.module",
        ),
        (
            "no_such.module:problem",
            {},
            UsageError,
            r"module 'no_such' is neither installed nor in .*. Name the problem as path",
        ),
        (
            "mine.py:absent",
            {},
            UsageError,
            r"no function 'absent'. Its functions are free, needs, other, problem\.",
        ),
        (
            ".mine:problem",
            {},
            UsageError,
            r"problem: expected path/file.py:factory or package.module:factory, found '.mine:problem'",
        ),
        (
            "mine.py",
            {},
            UsageError,
            r"unknown problem 'mine.py'. .* To use your own problem, pass mine.py:NAME_OF_THE_FUNCTION or",
        ),
        (
            "mine.py:",
            {},
            UsageError,
            r"problem: expected path/file.py:factory or package.module:factory, found 'mine.py:'",
        ),
        ("mine.py:other", {}, LCAError, r"the return value of mine.py:other: expected an lca.Problem, found an int"),
        (
            "mine.py:problem",
            {"layers": "3"},
            UsageError,
            r"no option 'layers'. Its options are hidden, rate, name",
        ),
        ("mine.py:problem", {"hidden": "x"}, UsageError, r"hidden: expected a whole number, found 'x'"),
        ("mine.py:problem", {"wide": "maybe"}, UsageError, r"wide: expected true or false, found 'maybe'"),
        ("mine.py:needs", {}, UsageError, r"requires the option 'size'. Pass it in options."),
    ],
)
def test_wrong_names_and_options_are_reported(folder, name, options, kind, message):
    with pytest.raises(kind, match=message):
        lca.load(name, options=options)


@pytest.mark.parametrize(
    ("name", "where", "what"),
    [
        ("broken.py:f", 'broken.py", line 2, in f', "ZeroDivisionError: division by zero"),
        ("broken:f", 'broken.py", line 2, in f', "ZeroDivisionError: division by zero"),
        ("needing.py:f", 'needing.py", line 1', "ModuleNotFoundError: No module named 'no_such_package'"),
        ("needing:f", 'needing.py", line 1', "ModuleNotFoundError: No module named 'no_such_package'"),
        ("ending.py:f", 'ending.py", line 3', "SystemExit: 2"),
        ("mine.py:free", 'mine.py", line', "RuntimeError: with {'a': '1'}"),
    ],
)
def test_errors_in_user_code_keep_their_traceback(folder, name, where, what):
    with pytest.raises(LCAError) as caught:
        lca.load(name, options={"a": "1"} if name.endswith("free") else {})
    text = str(caught.value)
    assert "raised" in text.splitlines()[0]
    assert where in text
    assert what in text
    assert "user_code.py" not in text
    assert "importlib" not in text


def test_failed_module_can_be_fixed_and_loaded_again(folder):
    with pytest.raises(LCAError):
        lca.load("broken.py:f")
    (folder / "broken.py").write_text("from mine import problem as f\n")
    assert isinstance(lca.load("broken.py:f"), lca.Problem)


PORTABLE = "import sys\n\ndef work():\n    sys.exit(7)\n"


def test_processes_that_do_not_share_memory_can_import_the_file(tmp_path, clean_imports):
    """On macOS and Windows, the workers of a DataLoader import the module that defines the dataset by its name."""
    (tmp_path / "portable.py").write_text(PORTABLE)
    module = _import_file(tmp_path / "portable.py")
    process = multiprocessing.get_context("spawn").Process(target=module.work)
    process.start()
    process.join(60)
    assert process.exitcode == 7


def test_a_file_does_not_replace_a_module_of_the_same_name(tmp_path, clean_imports):
    for name in ("colorsys.py", "two words.py", "os.path.py"):
        (tmp_path / name).write_text("def problem(): ...\n")
        module = _import_file(tmp_path / name)
        assert module.problem.__module__ == f"lca_problem_{name.removesuffix('.py')}"
    import colorsys

    assert hasattr(colorsys, "rgb_to_hsv")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(f"NAME = '{folder}'\n")
    a, b = (_import_file(tmp_path / folder / "same.py") for folder in ("a", "b"))
    assert (a.NAME, b.NAME, _import_file(tmp_path / "a" / "same.py")) == ("a", "b", a)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mine.py:problem", True),
        (r"C:\code\mine.py:problem", True),
        ("m:problem", True),
        (r"C:\runs\run.zarr", False),
        ("C:/runs/run.zarr", False),
        ("s3://bucket/run.zarr", False),
        ("run.zarr", False),
    ],
)
def test_a_path_with_a_drive_is_not_a_function(name, expected):
    assert is_problem(name) is expected


def test_function_in_a_file_on_a_drive_of_windows_is_found(tmp_path, monkeypatch, clean_imports):
    """On this system, the name of the file contains the drive and the folders."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / r"C:\code\mine.py").write_text("def problem():\n    return 7\n")
    with pytest.raises(LCAError, match=r"return value of C:\\code\\mine.py:problem: expected an lca.Problem, found"):
        lca.load(r"C:\code\mine.py:problem")
