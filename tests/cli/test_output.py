"""What was read from a store is printed so that it cannot control the terminal, and files are written as a whole."""

import errno
import shutil

import pytest
from rich.console import Console
from shell import call

import lca
from lca.cli import tables
from lca.cli.errors import describe_system_error
from lca.store.run import open_run
from lca.store.run_writer import RunWriter
from lca.text import escape_control

EVIL = "\x1b]0;owned\x07\x1b[2J\u202enrut\x9b31m\r"


def test_control_characters_are_shown_as_escapes():
    assert escape_control(EVIL) == r"\x1b]0;owned\x07\x1b[2J\u202enrut\x9b31m\r"
    assert escape_control("a\tb\nθ → ∑ ä\n") == "a\tb\nθ → ∑ ä\n"


def is_harmless(text):
    return text == escape_control(text)


def test_names_in_a_store_do_not_control_the_terminal(run, problem, tmp_path):
    lca.allocate(run, problem(), device="cpu", audit=0)
    writer = RunWriter(open_run(run, "r+"))
    table = writer.run.attributes["parameters"]
    for entry in table:
        entry["layer"] = entry["layer"] + EVIL
        entry["name"] = entry["name"] + EVIL
    writer.set_attributes(problem=EVIL, command=f"lca train {EVIL}", parameters=table)
    for arguments, status in (
        (["info", run], 0),
        (["analyze", "layers", run], 0),
        (["analyze", "neurons", run], 0),
        (["allocate", run], 2),
        (["plot", "layers", run, "--layers", "nothing", "--out", tmp_path / "a.png"], 2),
    ):
        result = call(*arguments, status=status)
        assert is_harmless(result.stdout + result.stderr), arguments
        assert "owned" in result.stdout + result.stderr
    writer.set_attributes(codec=EVIL)
    result = call("info", run, status=2)
    assert is_harmless(result.stderr)
    assert "owned" in result.stderr


def test_names_on_a_terminal_are_escaped_as_well(run, problem):
    lca.allocate(run, problem(), device="cpu", audit=0)
    console = Console(color_system=None, width=200, record=True, force_terminal=True)
    tables.print_table(console, ["layer", EVIL], [[EVIL, "1"]])
    tables.print_facts(console, f"problem  {EVIL}", {})
    tables.print_line(console, EVIL, "bold")
    assert is_harmless(console.export_text(styles=False).replace("\r", "\\r"))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), "the disk is full: a.png."),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "folder"), "is a directory: folder."),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "file name too long."),
    ],
)
def test_errors_of_the_system_are_messages(error, text):
    assert describe_system_error(error).startswith(text)


def test_a_failed_write_keeps_the_file_that_was_there(run, problem, tmp_path, monkeypatch):
    lca.allocate(run, problem(), device="cpu", audit=0)
    for name in ("layers.png", "layers.svg", "layers.pdf", "layers.json"):
        (tmp_path / name).write_text("good")

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    for suffix in ("png", "svg", "pdf"):
        result = call("plot", "layers", run, "--out", tmp_path / f"layers.{suffix}", status=1)
        assert "the disk is full" in result.stderr
    monkeypatch.setattr("json.dumps", fail)
    result = call("analyze", "layers", run, "--json", tmp_path / "layers.json", status=1)
    assert "the disk is full" in result.stderr
    assert all(path.read_text() == "good" for path in tmp_path.glob("layers.*"))
    assert len(list(tmp_path.glob("*partial*"))) == 0


def test_json_cannot_be_written_to_a_folder(run, problem, tmp_path):
    lca.allocate(run, problem(), device="cpu", audit=0)
    assert "is a directory" in call("analyze", "layers", run, "--json", tmp_path, status=1).stderr


def test_a_system_without_further_threads_is_reported(run, monkeypatch):
    def fail(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("lca.store.consolidated.open_root", fail)
    assert "the system allows no more threads or processes" in call("info", run, status=1).stderr


def test_a_store_that_disappears_is_reported(run, problem):
    lca.allocate(run, problem(), device="cpu", audit=0)
    opened = lca.open(run)
    shutil.rmtree(run)
    with pytest.raises(lca.LCAError):
        opened.allocation()
    call("analyze", "layers", run, status=2)
