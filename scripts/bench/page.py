"""Measure recording, allocation and the alternatives to lca, and collect the results on one page.

    PYTHONPATH=scripts .venv/bin/python -m bench.page [--data-dir FOLDER] [--out bench]        or: make bench

Runs bench.record, bench.allocate and bench.alternatives in that order. Their output is printed and written to
page.txt in the output folder, after a description of the machine. The figure and the numbers of bench.alternatives are
written to alternatives.png and alternatives.json. Takes more than an hour on two cores, during which nothing else
should run. The datasets are read from --data-dir, or from the folder in the environment variable LCA_DATA.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from bench import machine
from lca.text import facts


def list_commands(out: Path, data_dir: Path | None) -> list[list[str]]:
    """Return the command of each script: its module, followed by its arguments."""
    data = ["--data-dir", str(data_dir)] if data_dir else []
    kept = ["--picture", str(out / "alternatives.png"), "--json", str(out / "alternatives.json")]
    return [
        ["bench.record", *data],
        ["bench.allocate", *data],
        ["bench.alternatives", *data, *kept],
    ]


def write_line(line: str, page: TextIO) -> None:
    for file in (sys.stdout, page):
        print(line, file=file, flush=True)


def run(command: list[str], page: TextIO) -> None:
    """Run a script and copy its output to the page, line by line. Raises CalledProcessError if it fails."""
    arguments = [sys.executable, "-m", *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            write_line(line.rstrip("\n"), page)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="Folder that contains the datasets.")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="Output folder.")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "page.txt").open("w") as page:
        write_line(facts(machine.describe()), page)
        for command in list_commands(options.out, options.data_dir):
            write_line(f"\n\n{' '.join(command)}\n", page)
            run(command, page)


if __name__ == "__main__":
    main()
