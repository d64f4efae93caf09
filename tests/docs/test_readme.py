"""Everything in the README runs: its commands, on few iterations, print what it shows except for the numbers."""

import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from console import assert_shown, find_commands

import lca
from lca.cli.main import main
from refresh_docs import find_blocks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADINGS = [
    "lca: which parameters learned, and when?",
    "Install",
    "Your own model, in twelve lines of Python",
    "From the shell, in four lines",
    "What you get",
    "What it costs",
    "Is it for me?",
    "What was reproduced",
    "Documentation",
    "Cite",
    "Development",
]
FEW = ["--iterations", "100", "--device", "cpu"]


def run(line, monkeypatch):
    program, *arguments = shlex.split(line, comments=True)
    assert program == "lca"
    arguments += FEW if arguments[0] == "train" else []
    monkeypatch.setattr("sys.argv", ["lca", *arguments])
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_length_and_order():
    assert 120 <= len(README.splitlines()) <= 150
    assert re.findall(r"^##? (.*)", README, re.M) == HEADINGS


def test_shell_examples_print_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (shell,) = [block for block in find_blocks(README, "sh") if "lca train" in block]
    lines = shell.splitlines()
    assert len(lines) == 4
    for line in lines:
        run(line, monkeypatch)
    assert Path("report.html").stat().st_size > 1_000_000
    for arguments, printed in find_commands(README):
        if arguments[1] == "allocate":
            arguments = [*arguments, "--overwrite"]
        assert_shown(printed, run(shlex.join(arguments), monkeypatch))


def test_python_example_runs(tmp_path, monkeypatch, problem):
    monkeypatch.chdir(tmp_path)
    (example,) = find_blocks(README, "python")
    assert len([line for line in example.splitlines() if line.strip()]) == 12
    given = problem()

    def train(model, optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            given.losses(model, given.train).mean().backward()
            optimizer.step()

    x, y = given.train
    optimizer = torch.optim.SGD(given.model.parameters(), lr=0.1)
    names = {"model": given.model, "optimizer": optimizer, "train": train, "x": x, "y": y}
    exec(example, names)
    run = lca.open("run.zarr")
    assert run.n_iterations == 5
    change = run.allocation("train").read("loss")[[0, -1]]
    assert names["layers"].total.sum() == pytest.approx(change[1] - change[0], rel=1e-3)
    assert Path("layers.png").read_bytes().startswith(b"\x89PNG")


def test_options_exist():
    commands = [main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))]
    known = {flag for command in commands for parameter in command.params for flag in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", README)) <= known


def test_extras_exist():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (sentence,) = re.findall(r"^Extras: (.*?)\.\s", README, re.S | re.M)
    named = set(re.findall(r"`(\w+)`", sentence))
    assert named == set(setup["options.extras_require"]) - {"bench", "dev", "docs", "integrations"}


def test_number_of_questions():
    analyze = main.get_command(click.Context(main), "analyze")
    others = set(analyze.list_commands(click.Context(analyze))) - {"layers", "all"}
    assert len(others) == 11
    assert "[eleven more questions]" in README


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?://)(.*?)\)", README):
        assert (ROOT / target).exists(), target
