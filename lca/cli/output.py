"""Results on stdout, in color on a terminal and as plain text otherwise, and in JSON files."""

import json
import os
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lca.store.local import whole_file
from lca.text import escape_control, table

if TYPE_CHECKING:
    from rich.console import Console

    from lca.analysis.answer import Answer


def echo(text: str, err: bool = False) -> None:
    """Print text, which may contain names from a store, to stdout or stderr."""
    click.echo(escape_control(text), err=err)


def get_terminal() -> "Console | None":
    """Return a console for styled output if stdout is a terminal that can show it, else None."""
    if not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        return None
    from lca.cli.tables import make_console

    return make_console(no_color=bool(os.environ.get("NO_COLOR")))


def print_answer(answer: "Answer") -> None:
    """Print an answer as plain text, or with signed values in color if stdout is a terminal."""
    if console := get_terminal():
        from lca.cli import tables

        tables.print_answer(console, answer)
    else:
        echo(str(answer))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> None:
    """Print a table; `left` contains the indices of the left-aligned columns."""
    if console := get_terminal():
        from lca.cli import tables

        tables.print_table(console, header, rows, left=left)
    else:
        echo(table(header, rows, left))


def print_facts(text: str, verdicts: Mapping[str, bool] | None = None) -> None:
    """Print facts, one label and value per line; `verdicts` maps some labels to whether their value is good."""
    if console := get_terminal():
        from lca.cli import tables

        tables.print_facts(console, text, verdicts or {})
    else:
        echo(text)


def print_heading(text: str) -> None:
    """Print a heading, in bold on a terminal."""
    text = escape_control(text)
    click.echo(click.style(text, bold=True) if get_terminal() and not os.environ.get("NO_COLOR") else text)


def write_json(values: Any, json_file: Path | None) -> None:
    """Write plain values to a JSON file in UTF-8 and print its path; do nothing if `json_file` is None."""
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(json_file) as partial:
            partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        echo(str(json_file))


def get_command_line() -> str:
    """Return the command line of this process, which is stored in the run that it creates."""
    return shlex.join(["lca", *sys.argv[1:]])
