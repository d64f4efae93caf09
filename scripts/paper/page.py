"""The page that compares every finding of the paper with the reproduction, in Markdown and HTML."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from os.path import relpath
from pathlib import Path

import torch

import lca
from lca.analysis.iterations import choose_iterations, describe_exclusions
from lca.errors import LCAError
from lca.problem.zoo.presets import PRESETS
from lca.text import pluralize
from paper.archive import Archive, NotMade
from paper.drawings import draw
from paper.findings import FINDINGS
from paper.forecast import describe_device
from paper.making import Work
from paper.measured import Finding, Measured

ABOUT = {
    "smoke": "Scale smoke: embedded digits replace MNIST and CIFAR-10, and small networks replace large ones. This "
    "shows that everything runs. Whether a criterion is met says nothing about the paper.",
    "cpu": "Scale cpu: MNIST–FC is reproduced in full, except that its curves over learning rates use every 20th "
    "iteration. The other networks are trained for fewer iterations than in the paper and allocated over some of the "
    "examples or iterations, as stated in each row.",
    "paper": "Scale paper: everything is reproduced in full, except that the curves of MNIST–FC over learning rates "
    "use every 20th iteration.",
}
RULE = (
    "LCA below 0 helps (lowers the loss), above 0 hurts. Signs and differences are judged by t-tests over runs "
    "(p < 0.05). With two runs, both must have the expected sign. A single run is not judged."
)
VERDICTS = ("agrees", "differs", "open", "not run", "failed")


@dataclass(frozen=True)
class Row:
    """A row of the page.

    text: Result of the reproduction, or the reason why there is none.
    basis: Description of the runs and allocations that were used.
    verdict: One of VERDICTS.
    figures: Path of each figure by its name, or the reason why it could not be drawn.
    """

    finding: Finding
    text: str
    basis: str
    verdict: str
    figures: Mapping[str, Path | str]


def write_page(
    works: Mapping[str, list[Work]], folder: Path, scale: str, data_dir: Path | None, failures: Mapping[str, str]
) -> str:
    """Measure all findings, draw the figures, write the page, and return a one-line summary."""
    archive = Archive(works, data_dir)
    drawn: dict[str, Path | str] = {}
    rows = [make_row(finding, archive, folder / "figures", drawn) for finding in FINDINGS]
    folder.mkdir(parents=True, exist_ok=True)
    notes = [
        ABOUT[scale],
        f"{count_verdicts(rows)}. {RULE}",
        describe_versions(),
        *(f"{name} failed: {reason}" for name, reason in failures.items()),
    ]
    (folder / "index.md").write_text(render_markdown(rows, folder, notes), encoding="utf-8")
    (folder / "index.html").write_text(render_html(rows, folder, notes), encoding="utf-8")
    return f"{count_verdicts(rows)}: {folder / 'index.html'}"


def make_row(finding: Finding, archive: Archive, folder: Path, drawn: dict[str, Path | str]) -> Row:
    archive.used.clear()
    try:
        measured = finding.measure(archive)
    except NotMade as error:
        return Row(finding, str(error), "", "not run", {})
    except LCAError as error:
        return Row(finding, str(error), describe_basis(archive.used), "failed", {})
    basis = describe_basis(archive.used)
    for name in finding.figures:
        if name not in drawn:
            try:
                drawn[name] = draw(archive, name, folder)
            except LCAError as error:
                drawn[name] = str(error)
    return Row(finding, measured.text, basis, judge(measured), {name: drawn[name] for name in finding.figures})


def judge(measured: Measured) -> str:
    return "open" if measured.agrees is None else "agrees" if measured.agrees else "differs"


def describe_basis(used: Sequence[tuple[Work, str]]) -> str:
    """Describe the runs and allocations that were used, with similar runs counted together."""
    alike: dict[str, set[Path]] = {}
    for work, name in used:
        alike.setdefault(_describe_allocation(work, name), set()).add(work.path)
    return "; ".join(f"{pluralize(len(paths), 'run')} of {basis}" for basis, paths in alike.items())


def _describe_allocation(work: Work, name: str) -> str:
    run = lca.open(work.path)
    allocation = run.allocation(name)
    attributes, counted, T = allocation.attributes, choose_iterations(allocation), run.n_iterations
    examples, n_examples, split = (attributes[key] for key in ("examples", "examples_in_split", "split"))
    n = counted.n
    parts = [
        work.experiment + _describe_replacement(work),
        f"{T:,} of the {work.whole:,} iterations trained" if work.whole > T else "",
        f"{n:,} of {T:,} iterations allocated" if n < T else f"all {T:,} iterations",
        describe_exclusions([counted]) if len(allocation.iterations) != n else "",
        f"{examples:,} of {n_examples:,} {split} examples"
        if examples < n_examples
        else f"all {n_examples:,} {split} examples",
        f"in batches of {min(attributes['batch_size'], examples):,}" if attributes["batchnorm"] != "none" else "",
        "" if attributes["rule"] == "simpson" else attributes["rule"],
        str(run.attributes["train"]["device"]),
    ]
    return ", ".join(part for part in parts if part)


def _describe_replacement(work: Work) -> str:
    """Describe the problem that was trained, if it is not the problem of the experiment."""
    options = dict(work.options)
    problem = Path(work.problem).name
    if work.experiment.startswith(problem) and problem in PRESETS and not options:
        return ""
    text = "".join(f", {key} {value}" for key, value in options.items())
    return f" ({problem.rpartition(':')[2]}{text})"


def count_verdicts(rows: Sequence[Row]) -> str:
    n = Counter(row.verdict for row in rows)
    return f"{len(rows)} findings: " + ", ".join(f"{each} {n[each]}" for each in VERDICTS)


def describe_versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("loss-change-allocation", "numpy"))
    return (
        f"Values are means ± standard deviations over runs. This page was made with {describe_device()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, {packages}."
    )


HEADER = ["source", "paper", "reproduction", "based on", "criterion", "verdict", "figures"]


def render_markdown(rows: Sequence[Row], folder: Path, notes: Sequence[str]) -> str:
    lines = ["# Reproduction of the paper", ""]
    for note in notes:
        lines += [_plain(note), ""]
    lines += [f"| {' | '.join(HEADER)} |", "|" + " --- |" * len(HEADER)]
    for row in rows:
        links = ", ".join(_link(name, figure, folder) for name, figure in row.figures.items())
        finding = row.finding
        cells = [finding.source, finding.statement, row.text, row.basis, finding.criterion, row.verdict]
        lines.append("| " + " | ".join([*map(_plain, cells), links]) + " |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Put the text on one line and escape it for a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _link(name: str, figure: Path | str, folder: Path) -> str:
    return _plain(f"{name}: {figure}") if isinstance(figure, str) else f"[{name}]({relpath(figure, folder)})"


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { border-top: 1px solid #ddd; padding: .5rem .6rem; text-align: left; vertical-align: top; }
td:last-child { width: 22rem; min-width: 16rem; }
tr.notrun td { color: #999; padding: .2rem .6rem; font-size: 13px; }
td.basis, td.criterion { color: #666; font-size: 13px; }
td.agrees { color: #1b7837; } td.differs, td.failed { color: #b2182b; } td.open { color: #888; }
figure { margin: 0 0 .6rem; } figcaption { color: #666; font-size: 12px; }
img, video { width: 22rem; max-width: 100%; display: block; }
"""


def render_html(rows: Sequence[Row], folder: Path, notes: Sequence[str]) -> str:
    body = "\n".join(_html_row(row, folder) for row in rows)
    header = "".join(f"<th>{name}</th>" for name in HEADER)
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in notes)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Reproduction of the paper</title>\n'
        f"<style>{STYLE}</style>\n<h1>Reproduction of the paper</h1>\n{paragraphs}\n"
        f"<table>\n<tr>{header}</tr>\n{body}\n</table>\n</html>\n"
    )


def _html_row(row: Row, folder: Path) -> str:
    finding, kind = row.finding, row.verdict.replace(" ", "")
    cells = [
        f"<td>{escape(finding.source)}</td><td>{escape(finding.statement)}</td><td>{escape(row.text)}</td>",
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
