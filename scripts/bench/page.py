"""One page of figures: what recording costs, what an allocation costs, and what one would do without lca.

    PYTHONPATH=scripts .venv/bin/python -m bench.page [--data-dir FOLDER] [--out bench]        or: make bench

Runs bench.record, bench.allocate and bench.alternatives one after the other, prints what they print, under a
head that tells the machine, and keeps it as FOLDER/page.txt, with the picture and the figures of the last as
alternatives.png and alternatives.json. More than an hour on two cores; nothing else should run meanwhile. The data are
read from --data-dir, or as the scripts find them (LCA_DATA).
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from bench import machine
from lca.text import facts


def commands(out: Path, data_dir: Path | None) -> list[list[str]]:
    """The module of each script and its arguments."""
    data = ["--data-dir", str(data_dir)] if data_dir else []
    kept = ["--picture", str(out / "alternatives.png"), "--json", str(out / "alternatives.json")]
    return [
        ["bench.record", *data],
        ["bench.allocate", *data],
        ["bench.alternatives", *data, *kept],
    ]


def say(line: str, page: TextIO) -> None:
    for file in (sys.stdout, page):
        print(line, file=file, flush=True)


def run(command: list[str], page: TextIO) -> None:
    """Raises CalledProcessError where the script fails; what it printed until then is on the page."""
    arguments = [sys.executable, "-m", *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            say(line.rstrip("\n"), page)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "page.txt").open("w") as page:
        say(facts(machine.describe()), page)
        for command in commands(options.out, options.data_dir):
            say(f"\n\n{' '.join(command)}\n", page)
            run(command, page)


if __name__ == "__main__":
    main()
