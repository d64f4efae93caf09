"""The commands and the Python of "Your model in ten minutes" run, on few iterations, and print what is shown."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from console import assert_shown, find_commands

import lca
from lca.cli.main import main

TUTORIAL = (Path(__file__).parents[2] / "docs/start/your_model.md").read_text()
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", TUTORIAL, re.S)
MINE, LOOP, PYTHON = (code for kind, code in BLOCKS if kind == "python")
FEW = {"--iterations": "12", "--examples": "60"}  # replace the values shown, so that the tests take seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the guide's mine.py, limited to the first 120 windows of each split."""
    folder = tmp_path_factory.mktemp("tutorial")
    assert MINE.count("begin:end:40]") == 1
    (folder / "mine.py").write_text(MINE.replace("begin:end:40]", "begin:end:40][:120]"))
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def with_few(arguments):
    return [FEW.get(before, word) for before, word in zip(["", *arguments], arguments, strict=False)]


def test_commands_print_what_is_shown(here, monkeypatch):
    shown = list(find_commands(TUTORIAL))
    assert [arguments[1] for arguments, _ in shown] == ["train", *["allocate", "analyze"] * 2, "plot", "plot"]
    for (program, *arguments), printed in shown:
        assert program == "lca"
        monkeypatch.setattr("sys.argv", ["lca", *arguments])
        result = CliRunner().invoke(main, with_few(arguments), catch_exceptions=False)
        assert result.exit_code in (0, 3), result.output  # the total bound need not hold on few iterations
        assert_shown(re.sub(r"^bounds .*\n", "", printed, flags=re.M), result.stdout)
    assert Path("when.png").read_bytes().startswith(b"\x89PNG")
    assert "blocks.layers.0.linear1" in Path("report.html").read_text()


def test_custom_loop_is_recorded_and_allocated(here):
    names = {}
    exec(LOOP, names)
    run = lca.open("loop.zarr")
    assert run.n_iterations == 20
    assert "out.weight" not in [p.name for p in run.parameters]
    assert lca.allocate("loop.zarr", names["problem"], lca.AllocateConfig(iterations="0:3", audit=0)).iterations == 3


def test_python_runs(here, capsys):
    names = {}
    exec(PYTHON.replace("iterations=150", "iterations=12"), names)
    assert names["A"].shape == (128 * 32, 2)
    assert "blocks.layers.1.linear2" in capsys.readouterr().out
    assert Path("layers.png").read_bytes().startswith(b"\x89PNG")
    assert Path("python.html").exists()
