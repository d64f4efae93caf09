"""Functions that format values, tables and lists of facts as text or HTML."""

import re
import shlex
import sys
from collections.abc import Collection, Sequence
from html import escape

# Control characters other than tabs and line breaks, and characters that change the direction of the text.
UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")


def escape_control(text: str) -> str:
    """Replace characters that could control a terminal by their Python escapes, such as ``\\x1b``."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def quote(word: str) -> str:
    """Quote a word for the shell, if it needs it. Windows knows only double quotes."""
    if sys.platform != "win32":
        return shlex.quote(word)
    from subprocess import list2cmdline  # takes long to import

    return list2cmdline([word])


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Format a table as plain text. The columns in `left` are aligned left and the others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["─" * width for width in widths]), *map(line, rows)])


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Format a table as HTML, with the first column aligned left and the others right. All text is escaped."""

    def line(tag: str, cells: Sequence[str]) -> str:
        aligned = (
            f'<{tag} style="text-align: {"right" if i else "left"}">{escape(cell)}</{tag}>'
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(aligned)}</tr>"

    title = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    body = "".join(line("td", row) for row in rows)
    return f"<table>{title}<thead>{line('th', headings)}</thead><tbody>{body}</tbody></table>"


def html_facts(rows: Sequence[tuple[str, str]]) -> str:
    """Format (label, value) pairs as an HTML table with one row per pair. All text is escaped."""
    left = 'style="text-align: left"'
    body = "".join(f"<tr><th {left}>{escape(label)}</th><td {left}>{escape(value)}</td></tr>" for label, value in rows)
    return f"<table><tbody>{body}</tbody></table>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Format (label, value) pairs one per line, with the values aligned."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label.ljust(width)}  {value}" for label, value in rows)


def plus_minus(mean: float, deviation: float, digits: int) -> str:
    """Return "1.23 ± 0.04", or only the mean if the deviation is NaN."""
    return f"{mean:.{digits}f}" if deviation != deviation else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def number(value: float, digits: int = 7) -> str:
    """Return a number with this many significant digits, such as "2.350000" or "1.2e-08", or a dash if it is NaN."""
    return "–" if value != value else f"{value:#.{digits}g}".removesuffix(".")


def size(n_bytes: float) -> str:
    """Return a number of bytes as "1.2 MB", with three significant digits and powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def duration(seconds: float) -> str:
    """Return a duration as "12 s", "3 min 20 s" or "5 h 10 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{max(1, rest)} s"


def pluralize(n: int, noun: str) -> str:
    """Return a count with its noun: "1 iteration", "2 iterations", "3 passes"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "es" if noun.endswith("s") else "s")
