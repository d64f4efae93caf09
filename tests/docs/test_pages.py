"""Every command and Python block of the guides runs, and every option that a page names exists."""

import re
import shlex
from pathlib import Path

import pytest
from click import Context, Group
from click.testing import CliRunner
from console import assert_shown, find_commands

from lca.cli.main import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("do/*.md"), DOCS / "start/first_allocation.md", DOCS / "start/installation.md"])
EXCERPTS = DOCS / "do/trainers.md"  # shows parts of the examples, which have tests of their own
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
# Options of pip, torchrun and other programs that appear in the texts.
FOREIGN = {"--index-url", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--max-restarts"}


def find_blocks(text):
    return re.findall(r"```(\w+)\n(.*?)```", text, re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run_in_order(page, tmp_path, monkeypatch, clean_imports):
    """S3 is replaced with an object store in memory; tests/end_to_end/test_cloud.py has a server that speaks S3."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for kind, code in find_blocks(page.read_text()):
        if kind == "python" and page != EXCERPTS:
            exec(code, names)
        elif kind == "console":
            for (program, *arguments), shown in find_commands(f"```console\n{code}```"):
                assert program == "lca"
                require_runs([argument.replace("s3://", "memory://") for argument in arguments], shown, monkeypatch)


def require_runs(arguments, shown, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lca", *arguments])
    result = CliRunner().invoke(main, arguments, prog_name="lca", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert_shown(shown, result.stdout.replace("memory://", "s3://"))


def test_excerpts_are_parts_of_the_examples():
    examples = [re.sub(r"^ +", "", path.read_text(), flags=re.M) for path in DOCS.glob("examples/*.py")]
    blocks = [code for kind, code in find_blocks(EXCERPTS.read_text()) if kind == "python"]
    assert blocks
    for code in blocks:
        for part in re.sub(r"^ +", "", code, flags=re.M).split("...\n\n"):
            assert any(part in example for example in examples), part


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_commands_of_sh_blocks_can_be_parsed(page):
    for kind, code in find_blocks(page.read_text()):
        for line in code.splitlines() if kind in ("sh", "shell", "bash") else []:
            if command := re.match(r"(?:torchrun .*-m )?lca (.*)", line):
                parse(main, shlex.split(command[1], comments=True))


def parse(command, arguments):
    """Raise a click.UsageError unless the command accepts the arguments."""
    if isinstance(command, Group) and arguments[0][:1] != "-":
        name, *rest = arguments
        found = command.get_command(Context(command), name)
        assert found is not None, name
        parse(found, rest)
    else:
        command.make_context("lca", arguments)


def list_options(command):
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, Group):
        context = Context(command)
        options.update(*(list_options(command.get_command(context, name)) for name in command.list_commands(context)))
    return options | {"--help"}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_options_exist(page):
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page.read_text()))
    own = {
        line
        for line in re.findall(r"```.*?```|`[^`]*`", page.read_text(), re.S)
        if "scripts/" in line or "pytest" in line
    }
    elsewhere = {option for line in own for option in re.findall(r"--[a-z][a-z0-9-]+", line)}
    assert mentioned - list_options(main) - FOREIGN - elsewhere == set()


def test_pages_link_to_existing_files():
    for page in TEXTS:
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_index_lists_every_page():
    listed = set(re.findall(r"\]\((?!\w+:)([^)#]+\.(?:md|ipynb))\)", (DOCS / "index.md").read_text()))
    for index in DOCS.glob("*/index.md"):
        targets = re.findall(r"\]\((?!\w+:)([^)#/]+\.md)\)", index.read_text())
        listed |= {f"{index.parent.name}/{target}" for target in targets}
    pages = {str(path.relative_to(DOCS)) for pattern in ("*.md", "*.ipynb") for path in DOCS.rglob(pattern)}
    assert pages - listed - {"index.md"} == set()
