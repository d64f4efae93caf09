"""Run the commands that the documentation shows, and write what they print and draw into the pages.

    python scripts/refresh_docs.py            README.md and the pages in docs/ask, docs/do and docs/start

The commands of README.md and docs/ask share a temporary folder, in which those of docs/ask/index.md first train and
allocate the runs. Each other page is a guide, whose commands and Python blocks run in order in a folder of its own. A
Python block that begins with a docstring is not run, but saved there as mine.py.

A `console` block shows commands and their output. A line `…` stands for omitted output. The lines after it are located
in the new output by their text, ignoring numbers, and as many of them are shown as before. Without such a line, the
whole output is shown.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs/gallery/ask"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/ask").glob("*.md"))]
GUIDES = [*sorted((ROOT / "docs/do").glob("*.md")), *sorted((ROOT / "docs/start").glob("*.md"))]
EXCERPTS = ROOT / "docs/do/trainers.md"  # its Python blocks are parts of docs/examples
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.M)
ELLIPSIS = "…"


def find_blocks(text: str, language: str) -> list[str]:
    """Return the contents of the fenced blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def find_commands(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield the arguments and the shown output of every command after a `$` prompt."""
    for block in find_blocks(text, "console"):
        for command, printed in COMMAND.findall(block):
            yield shlex.split(command), printed


def find_setup() -> list[str]:
    """Return the commands that train and allocate the runs of the pages."""
    (setup,) = find_blocks((ROOT / "docs/ask/index.md").read_text(encoding="utf-8"), "sh")
    return setup.splitlines()


def mask_numbers(line: str) -> str:
    """Replace numbers by #, and remove what else varies: the shape of sparklines, column widths and units."""
    line = re.sub(r"-?\d[\d,]*(\.\d+)?(e[+-]\d+)?", "#", line.strip())
    line = re.sub(r"# (h # min|min # s)", "# s", re.sub(r"[▁-█·]+", "▁", line))
    return re.sub(r"[kMGT]B", "B", re.sub(r"\s+|─+", " ", line).strip())


def abridge(printed: str, shown: str) -> str:
    """Return the lines of `printed` that correspond to those of `shown`, and keep the ellipses of `shown`.

    Raises:
        ValueError: A part of `shown` does not begin with a line of `printed`.
    """
    if ELLIPSIS not in shown.splitlines():
        return printed
    masked, lines, position = [mask_numbers(line) for line in printed.splitlines()], [], 0
    for line in shown.splitlines():
        if line == ELLIPSIS:
            lines.append(line)
            continue
        if not lines or lines[-1] == ELLIPSIS:
            if mask_numbers(line) not in masked[position:]:
                raise ValueError(f"this line is no longer printed: {line}")
            position = masked.index(mask_numbers(line), position)
        lines.append(printed.splitlines()[position])
        position += 1
    return "\n".join(lines) + "\n"


def refresh(page: Path, folder: Path) -> None:
    """Rewrite the console blocks of a page, and copy the figures that it links to."""
    text = page.read_text(encoding="utf-8")
    if page.name == "README.md":
        for line in next(block for block in find_blocks(text, "sh") if "lca train" in block).splitlines():
            run(shlex.split(line, comments=True), folder)

    def rerun(found: re.Match[str]) -> str:
        arguments = shlex.split(found[1])
        again = ["--overwrite"] if page.name == "README.md" and arguments[1] == "allocate" else []
        return f"$ {found[1]}\n{abridge(run([*arguments, *again], folder), found[2])}"

    text = re.sub(r"(?<=```console\n).*?(?=```)", lambda block: COMMAND.sub(rerun, block[0]), text, flags=re.S)
    page.write_text(text, encoding="utf-8")
    for name in re.findall(r"gallery/ask/([\w-]+\.png)", text):
        shutil.copy(folder / name, GALLERY / name)


def refresh_guide(page: Path, folder: Path) -> None:
    """Run the Python and console blocks of a guide in order, and rewrite the console blocks."""
    names: dict[str, object] = {}  # shared by the Python blocks

    def rerun(found: re.Match[str]) -> str:
        if not re.match(r"lca \w", found[1]):
            return found[0]
        printed = run(shlex.split(found[1].replace("s3://", "")), folder)  # a folder stands in for the bucket
        if "s3://" in found[1]:
            printed = printed.replace("bucket/", "s3://bucket/")
        return f"$ {found[1]}\n{abridge(printed, found[2])}"

    def rerun_block(block: re.Match[str]) -> str:
        if block[1] == "python" and page != EXCERPTS:
            if block[2].startswith('"""'):
                (folder / "mine.py").write_text(block[2], encoding="utf-8")
            else:
                with chdir(folder), redirect_stdout(StringIO()):
                    exec(block[2], names)
        return f"```console\n{COMMAND.sub(rerun, block[2])}```" if block[1] == "console" else block[0]

    page.write_text(BLOCK.sub(rerun_block, page.read_text(encoding="utf-8")), encoding="utf-8")


def run(arguments: list[str], folder: Path) -> str:
    """Run a command of lca and return what it prints."""
    print(shlex.join(arguments), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return done.stdout


if __name__ == "__main__":
    GALLERY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in find_setup():
            run(shlex.split(line, comments=True), Path(folder))
        for page in PAGES:
            refresh(page, Path(folder))
    for page in GUIDES:
        with tempfile.TemporaryDirectory() as folder:
            refresh_guide(page, Path(folder))
