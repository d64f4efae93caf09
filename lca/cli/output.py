"""Results on stdout, and in a file for programs."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click


def write_json(values: Any, json_file: Path | None) -> None:
    """Write what was printed for programs, if a file is given."""
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        click.echo(str(json_file))


def get_command_line() -> str:
    """The command line of this process, to store with what it makes."""
    return shlex.join(["lca", *sys.argv[1:]])
