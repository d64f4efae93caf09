"""The page: every finding of the paper beside ours, in Markdown and in HTML."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from os.path import relpath
from pathlib import Path

import torch
from paper.archive import Archive
from paper.drawings import draw
from paper.findings import FINDINGS, Finding, Measured
from paper.making import Work

from lca.errors import LCAError
from lca.store import Run
from lca.text import count

ABOUT = {
    "smoke": "Smoke: embedded digits stand in for MNIST and CIFAR-10, and small networks for large ones. This shows "
    "that everything runs; whether a criterion is met here tells nothing about the paper.",
    "cpu": "CPU: MNIST–FC whole and genuine. The other networks are trained for a part of the paper's iterations and "
    "allocated over some of the examples or in some of the iterations, as said in each row.",
    "paper": "Paper: every run whole, every iteration, over all examples.",
}


@dataclass(frozen=True)
class Row:
    """basis: what the measurement is based on, in words. verdict: agrees, differs, open or not run.

    figures: where each is, or why it could not be drawn, by its name.
    """

    finding: Finding
    told: str
    basis: str
    verdict: str
    figures: Mapping[str, Path | str]


def write_page(
    works: Mapping[str, list[Work]], folder: Path, scale: str, data_dir: Path | None, failures: Mapping[str, str]
) -> str:
    """Measure, draw and write; what came of it, in a line."""
    archive = Archive(works, data_dir)
    drawn: dict[str, Path | str] = {}
    rows = [row_of(finding, archive, folder / "figures", drawn) for finding in FINDINGS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text(markdown(rows, folder, scale, failures))
    (folder / "index.html").write_text(html(rows, folder, scale, failures))
    return f"{tally(rows)}: {folder / 'index.html'}"


def row_of(finding: Finding, archive: Archive, folder: Path, drawn: dict[str, Path | str]) -> Row:
    archive.used.clear()
    try:
        measured = finding.measure(archive)
    except LCAError as error:
        return Row(finding, str(error), "", "not run", {})
    basis = describe(archive.used)
    for name in finding.figures:
        if name not in drawn:
            try:
                drawn[name] = draw(archive, name, folder)
            except LCAError as error:
                drawn[name] = str(error)
    return Row(finding, measured.told, basis, verdict(measured), {name: drawn[name] for name in finding.figures})


def verdict(measured: Measured) -> str:
    return "open" if measured.agrees is None else "agrees" if measured.agrees else "differs"


def describe(used: Sequence[tuple[Run, str]]) -> str:
    """What was trained and allocated: "3 runs; 22 of 880 iterations; 2,000 of 55,000 examples; cpu"."""
    alike: dict[str, set[str]] = {}
    for run, name in dict.fromkeys(used):
        alike.setdefault(_basis(run, name), set()).add(str(run.path))
    return "; ".join(f"{count(len(paths), 'run')}, {basis}" for basis, paths in alike.items())


def _basis(run: Run, name: str) -> str:
    attributes, train = run.allocation(name).attributes, run.attributes["train"]
    n, T = len(run.allocation(name).iterations), run.n_iterations
    examples, of = attributes["examples"], attributes["examples_in_split"]
    problem = str(run.attributes["problem"]).rpartition(":")[2]
    options = "".join(f" {key} {value}" for key, value in run.attributes["problem_options"].items() if value != 1)
    return ", ".join(
        [
            f"{problem}{options}",
            f"{n:,} of {T:,} iterations" if n < T else f"all of {T:,} iterations",
            f"{examples:,} of {of:,} examples" if examples < of else f"all {of:,} examples",
            *([] if attributes["rule"] == "simpson" else [attributes["rule"]]),
            str(train["device"]),
        ]
    )


def tally(rows: Sequence[Row]) -> str:
    n = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("agrees", "differs", "open", "not run")}
    return f"{len(rows)} findings, {n['agrees']} agree, {n['differs']} differ, {n['open']} open, {n['not run']} not run"


def _head(rows: Sequence[Row], scale: str, failures: Mapping[str, str]) -> list[str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return [
        ABOUT[scale],
        f"{tally(rows)}. Means ± standard deviations over runs. Page made with {device}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, lca {version('loss-change-allocation')}.",
        *(f"{name} failed: {told}" for name, told in failures.items()),
    ]


HEADER = ["where", "the paper", "here", "based on", "we agree if", "verdict", "figures"]


def markdown(rows: Sequence[Row], folder: Path, scale: str, failures: Mapping[str, str]) -> str:
    lines = ["# The paper, redone", "", *"\n\n".join(_head(rows, scale, failures)).splitlines(), ""]
    lines += [f"| {' | '.join(HEADER)} |", "|" + " --- |" * len(HEADER)]
    for row in rows:
        links = ", ".join(_link(name, figure, folder) for name, figure in row.figures.items())
        cells = [row.finding.where, row.finding.says, row.told, row.basis, row.finding.criterion, row.verdict, links]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _link(name: str, figure: Path | str, folder: Path) -> str:
    return f"{name}: {figure}" if isinstance(figure, str) else f"[{name}]({relpath(figure, folder)})"


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { border-top: 1px solid #ddd; padding: .5rem .6rem; text-align: left; vertical-align: top; }
td:last-child { width: 22rem; min-width: 16rem; }
tr.notrun td { color: #999; padding: .2rem .6rem; font-size: 13px; }
td.basis, td.criterion { color: #666; font-size: 13px; }
td.agrees { color: #1b7837; } td.differs { color: #b2182b; } td.open { color: #888; }
figure { margin: 0 0 .6rem; } figcaption { color: #666; font-size: 12px; }
img, video { width: 22rem; max-width: 100%; display: block; }
"""


def html(rows: Sequence[Row], folder: Path, scale: str, failures: Mapping[str, str]) -> str:
    body = "\n".join(_html_row(row, folder) for row in rows)
    header = "".join(f"<th>{name}</th>" for name in HEADER)
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in _head(rows, scale, failures))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>The paper, redone</title>\n'
        f"<style>{STYLE}</style>\n<h1>The paper, redone</h1>\n{paragraphs}\n"
        f"<table>\n<tr>{header}</tr>\n{body}\n</table>\n</html>\n"
    )


def _html_row(row: Row, folder: Path) -> str:
    finding, kind = row.finding, row.verdict.replace(" ", "")
    cells = [
        f"<td>{escape(finding.where)}</td><td>{escape(finding.says)}</td><td>{escape(row.told)}</td>",
        f'<td class="basis">{escape(row.basis)}</td><td class="criterion">{escape(finding.criterion)}</td>',
        f'<td class="{kind}">{row.verdict}</td>',
        f"<td>{''.join(_picture(name, figure, folder) for name, figure in row.figures.items())}</td>",
    ]
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _picture(name: str, figure: Path | str, folder: Path) -> str:
    if isinstance(figure, str):
        return f"<p>{escape(name)}: {escape(figure)}</p>"
    place = escape(relpath(figure, folder))
    caption = f"<figcaption>{escape(name)}</figcaption>"
    if figure.suffix == ".mp4":
        return f'<figure><video controls preload="metadata" src="{place}"></video>{caption}</figure>'
    return f'<figure><a href="{place}"><img loading="lazy" src="{place}" alt="{escape(name)}"></a>{caption}</figure>'
