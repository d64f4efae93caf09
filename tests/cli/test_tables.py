"""Tables on a terminal: color, width, and plain text everywhere else."""

import io
import os
import re
import select
import subprocess
import sys

import numpy as np
import pytest
from handmade import CONVERGED, make_run
from rich.console import Console

import lca
from lca import analysis
from lca.analysis.answer import Answer, Column, Table
from lca.cli import tables
from lca.figures.style import COLORS

pty = pytest.importorskip("pty", reason="pseudo-terminals exist only on Unix")

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
GREEN, RED, BOLD = "\x1b[38;2;42;157;78m", "\x1b[38;2;209;73;91m", "\x1b[1m"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The path of a run with seven parameters, whose first layer helps and whose second layer hurts."""
    signs = np.where(np.arange(7) < 3, -1.0, 1.0)[:, None]
    path = tmp_path_factory.mktemp("tables") / "run.zarr"
    return make_run(path, (signs * [[0.5, 0.25, 0.125]]).tolist(), status=CONVERGED[:3]).path


@pytest.fixture(scope="module")
def run_in_terminal(server):
    """A function that runs `lca` with a pseudo-terminal as its stdout, and returns everything it writes there."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")

    def run(*arguments, width=100, **environment):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, np.array([40, width, 0, 0], np.uint16).tobytes())
        clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
        environment = {**clean, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
        with open(theirs, "wb", buffering=0) as terminal:
            command = server.start(*arguments, stdout=terminal, env=environment)
        written = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux reports the closed end in this way
                break
            if not part:
                break
            written += part
        os.close(ours)
        assert command.wait() == 0
        return written.decode().replace("\r\n", "\n")

    return run


@pytest.fixture(scope="module")
def run_in_pipe(server):
    """A function that returns what `lca` writes to a pipe."""
    return lambda *arguments, **environment: server.run(*arguments, env={**os.environ, **environment})[0]


def render(answer, width):
    """Return an answer as a console of this width shows it, without styles."""
    file = io.StringIO()
    tables.print_answer(Console(file=file, width=width, color_system=None), answer)
    return file.getvalue()


def make_answer(rows, columns):
    made = {heading: Column(np.array([values], float), signed=True) for heading, values in columns.items()}
    return Answer("question", [Table("layer", rows, made, "title")], [])


def test_values_are_green_below_zero_and_red_above(run, run_in_terminal):
    shown = run_in_terminal("analyze", "layers", run)
    rows = [line for line in shown.splitlines() if ESCAPE.sub("", line).split()[:1] in (["0"], ["1"])]
    assert any(GREEN in row and RED not in row and "-" in row for row in rows)
    assert any(RED in row and GREEN not in row for row in rows)
    assert shown.startswith(BOLD)
    assert f"{GREEN}helps" in shown
    assert f"{RED}hurts" in shown


def test_colors_are_those_of_the_figures():
    assert (COLORS["green-red"].help, COLORS["green-red"].hurt) == (tables.HELP, tables.HURT)


def test_values_without_a_sign_and_zeros_have_no_color():
    values = np.array([[-1.0, 0.0, 2.0, np.nan]])
    assert tables.color_by_sign(Column(values)) == ["", "", "", ""]
    assert tables.color_by_sign(Column(values, signed=True)) == [tables.HELP, "", tables.HURT, ""]


@pytest.mark.parametrize(("verdict", "color"), [(True, GREEN), (False, RED)])
def test_the_verdict_on_the_bounds_is_colored(verdict, color):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="truecolor", width=80)
    tables.print_facts(console, "loss A  1 → 0\nbounds  hold", {"bounds": verdict})
    loss, bounds = file.getvalue().splitlines()
    assert loss == f"{BOLD}loss A\x1b[0m  1 → 0"
    assert bounds == f"{BOLD}bounds\x1b[0m{color}  hold\x1b[0m"


def test_no_color_writes_no_escape_sequences(run, run_in_terminal):
    shown = run_in_terminal("analyze", "layers", run, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "helps" in shown
    assert "\x1b" in run_in_terminal("analyze", "layers", run, NO_COLOR="")  # an empty value does not count


def test_a_dumb_terminal_gets_plain_text(run, run_in_terminal, run_in_pipe):
    shown = run_in_terminal("analyze", "layers", run, TERM="dumb")
    assert shown.encode() == run_in_pipe("analyze", "layers", run)


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}])
def test_a_pipe_gets_the_text_of_the_answer_byte_for_byte(run, run_in_pipe, environment):
    answer = analysis.layers([lca.open(run)]).to_answer()
    assert run_in_pipe("analyze", "layers", run, **environment) == f"{answer}\n".encode()
    assert run_in_pipe("info", run, **environment) == f"{lca.open(run)!r}\n".encode()


def test_a_terminal_shows_the_same_words_as_a_pipe(run, run_in_terminal, run_in_pipe):
    for arguments in (["analyze", "layers", run], ["analyze", "all", run], ["info", run], ["problems", "digits-fc"]):
        shown = ESCAPE.sub("", run_in_terminal(*arguments, width=300))
        piped = run_in_pipe(*arguments).decode()
        assert shown.replace("─", "").split() == piped.replace("─", "").split()


def test_rich_is_imported_only_for_a_terminal(run):
    code = "import sys; from lca.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "assert 'rich' not in sys.modules"
    for arguments in (["info", run], ["analyze", "layers", run]):
        subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("width", [24, 30, 40, 60, 80, 200])
def test_a_narrow_terminal_loses_no_column_and_cuts_no_number(width):
    numbers = {f"column {c}": [-1234.5 - c, 0.25 + c, 77.125 * c] for c in range(6)}
    answer = make_answer(["layer1.conv.weight", "fc", "sum of all layers"], numbers)
    n_notes = len("\n".join(answer.footer)) + 1  # the notes are wrapped by the terminal, not by rich
    shown = render(answer, width)[:-n_notes]
    assert all(len(line) <= width for line in shown.splitlines())
    words = shown.split()
    for values in numbers.values():
        for value in values:
            assert f"{value:.1f}" in words
    for c in range(6):
        assert re.search(rf"column {c}\b", shown)


def test_long_labels_are_folded():
    shown = render(make_answer(["a_very_long_name_of_a_layer"], {"LCA": [-0.5]}), 24)
    first, second = shown.splitlines()[3:5]
    assert first == "a_very_long_na  -0.50000"
    assert second.rstrip() == "me_of_a_layer"


def test_a_terminal_too_narrow_for_a_column_gets_the_plain_table():
    answer = make_answer(["fc1", "fc2"], {"a heading of a column": [-0.5, 0.5]})
    assert str(answer.tables[0]) in render(answer, 12)


def test_columns_are_split_in_order():
    assert tables.split_columns([5, 5, 5], 21) == [[0, 1, 2]]
    assert tables.split_columns([5, 5, 5], 20) == [[0, 1], [2]]
    assert tables.split_columns([5, 5, 5], 14) == [[0, 1], [2]]
    assert tables.split_columns([50], 14) == [[0]]
