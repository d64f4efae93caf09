"""Problems of the user's own: found, called with their options, and told apart where they cannot be."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from test_cli import call

import lca
from lca.errors import LCAError, UsageError
from lca.problem import user_code as factory
from lca.store.run import open_run

MINE = """
import torch
from torch import nn
import lca
import helper

def problem(hidden: int = 4, rate=0.5, name="a", wide=False):
    model = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    assert isinstance(hidden, int) and isinstance(rate, float) and isinstance(name, str) and isinstance(wide, bool)
    x = torch.linspace(-1, 1, 40).reshape(20, 2)
    return lca.Problem(model, train=(x, (x[:, 0] > 0).long()), name="ignored")

def needs(size): ...

def free(**anything):
    raise RuntimeError(f"with {anything}")

def other():
    return 7

def _hidden(): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a file, a module beside it and a package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "broken.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    (tmp_path / "ending.py").write_text("import sys\n\nsys.exit(2)\n")
    (tmp_path / "needing.py").write_text("import no_such_package\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text("from mine import problem\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("lca_problem_", "mine", "helper", "package", "broken", "ending", "needing")):
            del sys.modules[name]


@pytest.mark.parametrize(
    "name", ["mine.py:problem", "{folder}/mine.py:problem", "mine:problem", "package.module:problem"]
)
def test_a_function_is_found_in_a_file_or_a_module(folder, name):
    name = name.format(folder=folder)
    problem = lca.load(name, options={"hidden": "6", "rate": "1", "wide": "true"})
    assert (problem.name, problem.options) == (name, {"hidden": 6, "rate": 1.0, "wide": True})
    assert problem.model[0].weight.shape == (6, 2)


def test_the_seed_draws_the_weights_and_leaves_the_callers_alone(folder):
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
            r"there is no file nowhere.py in .*; path/file.py:factory or package.module",
        ),
        ("no_such.module:problem", {}, UsageError, r"there is no module 'no_such', neither installed nor in"),
        ("mine.py:absent", {}, UsageError, r"mine.py has no function 'absent'; it has free, needs, other, problem\."),
        (".mine:problem", {}, UsageError, r"problem is '.mine:problem'; path/file.py:factory or"),
        ("mine.py", {}, UsageError, r"unknown problem 'mine.py'; .* given as mine.py:NAME_OF_THE_FUNCTION or"),
        ("mine.py:", {}, UsageError, r"problem is 'mine.py:'; path/file.py:factory or"),
        ("mine.py:other", {}, LCAError, r"mine.py:other returned a int; a lca.Problem was wanted"),
        ("mine.py:problem", {"layers": "3"}, UsageError, r"no option 'layers'; it takes hidden, rate, name, wide"),
        ("mine.py:problem", {"hidden": "x"}, UsageError, r"hidden is 'x'; a whole number was wanted"),
        ("mine.py:problem", {"wide": "maybe"}, UsageError, r"wide is 'maybe'; true or false was wanted"),
        ("mine.py:needs", {}, UsageError, r"needs the option 'size': --set size=…"),
    ],
)
def test_what_is_wrong_is_told(folder, name, options, kind, message):
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
def test_what_the_users_code_raises_is_told_with_its_own_traceback(folder, name, where, what):
    with pytest.raises(LCAError) as caught:
        lca.load(name, options={"a": "1"} if name.endswith("free") else {})
    text = str(caught.value)
    assert "raised" in text.splitlines()[0]
    assert where in text
    assert what in text
    assert "factory.py" not in text
    assert "importlib" not in text


def test_a_module_that_failed_can_be_mended(folder):
    with pytest.raises(LCAError):
        lca.load("broken.py:f")
    (folder / "broken.py").write_text("from mine import problem as f\n")
    assert isinstance(lca.load("broken.py:f"), lca.Problem)


def test_a_plug_in_adds_a_name(folder, monkeypatch):
    points = [EntryPoint("their-net", "mine:problem", factory.GROUP)]
    monkeypatch.setattr(factory, "entry_points", lambda group: points if group == factory.GROUP else [])
    assert lca.load("their-net").name == "their-net"
    assert "their-net" in call("problems").stdout
    call("train", "their-net", "--iterations", 3, "--batch-size", 10, "--out", "run.zarr", "--device", "cpu")
    assert "it names 'their-net'" in call("allocate", "run.zarr", status=1).stderr
    call("allocate", "run.zarr", "--problem", "their-net", "--audit", 0)


def test_from_a_file_to_an_answer(folder):
    arguments = ["--iterations", 5, "--batch-size", 10, "--set", "hidden=3", "--device", "cpu"]
    call("train", "mine.py:problem", "--out", "run.zarr", *arguments)
    assert lca.open("run.zarr").attributes["problem_options"] == {"hidden": 3}
    refused = call("allocate", "run.zarr", status=1)
    assert "it names 'mine.py:problem'. Give the one it was trained on with --problem" in refused.stderr
    call("check", "run.zarr", "--problem", "mine.py:problem")
    hint = call("analyze", "layers", "run.zarr", status=1).stderr
    assert "`lca allocate run.zarr --problem mine.py:problem`" in hint
    call("allocate", "run.zarr", "--problem", "package.module:problem", "--audit", 0)
    assert "nothing" in call("analyze", "prune", "run.zarr", "--problem", "mine.py:problem", "--device", "cpu").stdout
    assert "hidden is 'x'" in call("train", "mine.py:problem", "--out", "b.zarr", "--set", "hidden=x", status=2).stderr


def test_a_name_in_a_store_is_never_imported(folder):
    call("train", "mine.py:problem", "--iterations", 2, "--batch-size", 10, "--out", "run.zarr", "--device", "cpu")
    (folder / "evil.py").write_text("open('touched', 'w')\n")
    run = open_run("run.zarr", "r+")
    for name in ("evil.py:problem", "evil:problem"):
        run._set(problem=name)
        for command in (["allocate"], ["check"], ["analyze", "prune"], ["plot", "prune", "--out", "a.png"]):
            call(*command, "run.zarr", status=1)
        call("info", "run.zarr")
    assert not (folder / "touched").exists()


def test_torchruns_workers_find_the_current_folder(folder):
    call("train", "mine:problem", "--iterations", 4, "--batch-size", 10, "--out", "run.zarr", "--device", "cpu")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "lca", "allocate", "run.zarr"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--problem", "mine:problem", "--audit", "0"], check=True, env=environment, capture_output=True
    )
    assert np.isfinite(lca.open("run.zarr").allocation("train").lca[:]).all()


def test_the_starter_runs_as_it_is(folder):
    told = call("init", "new/start.py").stdout
    assert told.startswith(
        "new/start.py; train it with: lca train new/start.py:problem --iterations 200 --out start.zarr"
    )
    call("train", "new/start.py:problem", "--iterations", 20, "--out", "start.zarr", "--device", "cpu")
    summary = call("allocate", "start.zarr", "--problem", "new/start.py:problem", "--by-class", "--split", "val").stdout
    assert "bounds               hold" in summary
    assert "FILE" not in (folder / "new/start.py").read_text()
    assert "exists already; it is left alone" in call("init", "new/start.py", status=2).stderr
    assert "is no Python file" in call("init", "start.txt", status=2).stderr
    assert "a plain name was wanted" in call("init", "it's.py", status=2).stderr
    assert "lca train 'my file.py':problem" in call("init", "my file.py").stdout
