"""The tutorial's file, commands and Python run in an empty folder, and print what it shows but for the numbers."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from console import find_commands, without_numbers

import lca
from lca.cli.main import main

TUTORIAL = (Path(__file__).parents[2] / "docs/start/your_model.md").read_text()
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", TUTORIAL, re.S)
MINE, LOOP, PYTHON = (code for kind, code in BLOCKS if kind == "python")
FEW = {"--iterations": "4", "--examples": "100"}  # in place of what is shown, so that it takes seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With mine.py on a part of its text: the first windows of each split alone."""
    folder = tmp_path_factory.mktemp("tutorial")
    assert MINE.count("begin:end:40]") == 1
    (folder / "mine.py").write_text(MINE.replace("begin:end:40]", "begin:end:40][:200]"))
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def with_few(arguments):
    return [FEW.get(before, word) for before, word in zip(["", *arguments], arguments, strict=False)]


def test_the_console_shows_what_happens(here, monkeypatch):
    shown = list(find_commands(TUTORIAL))
    assert [arguments[1] for arguments, _ in shown] == ["train", *["allocate", "analyze"] * 2, "plot", "plot"]
    for (program, *arguments), printed in shown:
        assert program == "lca"
        monkeypatch.setattr("sys.argv", ["lca", *arguments])
        result = CliRunner().invoke(main, with_few(arguments), catch_exceptions=False)
        assert result.exit_code in (0, 3), result.output  # four steps at this rate need not hold the total bound
        found = without_numbers(result.stdout)
        for part in without_numbers_in_parts(printed):
            assert any(found[i : i + len(part)] == part for i in range(len(found))), (part, found)
    assert Path("when.png").read_bytes().startswith(b"\x89PNG")
    assert "blocks.layers.0.linear1" in Path("report.html").read_text()


def without_numbers_in_parts(printed):
    """What is shown between the lines that are left out; the verdict of a certificate may be another."""
    for part in printed.split("…"):
        lines = without_numbers(part)
        if any(lines):
            yield [line for line in lines if not line.startswith("bounds")]


def test_its_loop_is_recorded_and_allocated(here):
    names = {}
    exec(LOOP, names)
    run = lca.open("loop.zarr")
    assert run.n_iterations == 20
    assert "out.weight" not in [p.name for p in run.parameters]
    assert lca.allocate("loop.zarr", names["given"], lca.AllocateConfig(iterations="0:3", audit=0)).iterations == 3


def test_its_python_runs(here, capsys):
    names = {}
    exec(PYTHON.replace("iterations=150", "iterations=12"), names)
    assert names["A"].shape == (128 * 32, 2)
    assert "blocks.layers.1.linear2" in capsys.readouterr().out
    assert Path("layers.png").read_bytes().startswith(b"\x89PNG")
    assert Path("python.html").exists()
