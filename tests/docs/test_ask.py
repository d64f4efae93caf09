"""The pages of the questions: their commands and their Python run, and print what is shown except for the numbers."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner
from console import assert_shown, find_commands

import lca
from lca.cli.main import main
from refresh_docs import find_blocks, find_setup

ASK = Path(__file__).parents[2] / "docs/ask"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(ASK.glob("*.md"))}
QUESTIONS = {name: text for name, text in PAGES.items() if name not in ("index", "figures")}


FEW = ["--iterations", "100"]  # instead of 300, so that the tests take seconds


def run(arguments):
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, (arguments, result.output)
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The runs of the pages, trained and allocated as docs/ask/index.md says."""
    folder = tmp_path_factory.mktemp("ask")
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
        for line in find_setup():
            _, command, *arguments = shlex.split(line, comments=True)
            run([command, *arguments, "--device", "cpu", *(FEW if command == "train" else [])])
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_commands_print_what_is_shown(folder, monkeypatch, page):
    monkeypatch.chdir(folder)
    for (program, *arguments), shown in find_commands(PAGES[page]):
        assert program == "lca"
        assert_shown(shown, run(arguments))
        if arguments[0] == "plot":
            assert (folder / arguments[-1]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", QUESTIONS)
def test_python_runs(folder, monkeypatch, page):
    monkeypatch.chdir(folder)
    for code in find_blocks(PAGES[page], "python"):
        exec(code, {"lca": lca})


def list_commands(group):
    command = main.get_command(Context(main), group)
    return set(command.list_commands(Context(command)))


def test_every_question_has_a_page_and_a_row():
    assert set(QUESTIONS) == list_commands("analyze") - {"all"}
    assert set(QUESTIONS) | {"figures"} == set(re.findall(r"^\| \[\w+\]\((\w+)\.md\)", PAGES["index"], re.M))


def test_every_figure_has_a_row():
    (rows,) = re.findall(r"^\| figure \| shows \|\n(.*?)\n\n", PAGES["figures"], re.M | re.S)
    assert set(re.findall(r"`([a-z-]+)`", rows)) == list_commands("plot")


@pytest.mark.parametrize("page", QUESTIONS)
def test_pages_have_the_same_sections(page):
    sections = re.findall(r"^## (.*)", PAGES[page], re.M)
    assert [section.replace("figures", "figure") for section in sections] == [
        "When to ask",
        "The command",
        "In Python",
        "The figure",
        "How to read it",
        "How it was checked",
        "Where it misleads",
    ]


def test_pictures_and_links_exist():
    for text in PAGES.values():
        for target in re.findall(r"\]\((?!https?://)(.*?)\)", text):
            assert (ASK / target).exists(), target
