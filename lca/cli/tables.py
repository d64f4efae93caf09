"""Tables and facts on a terminal, in color: what helps is green and what hurts is red, as in the figures.

`rich` is imported only here and only when something is printed on a terminal. Output to a file or a pipe does not pass
through this module.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from lca.analysis.answer import SIGN_NOTE, Answer, Column
from lca.text import escape_control, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

HELP, HURT = "#2a9d4e", "#d1495b"  # as in lca.figures.style, which would import matplotlib
GAP = 2  # spaces between columns
MIN_LABEL_WIDTH = 8  # below this width, labels are not folded
LABEL = re.compile(r"\S+(?: \S+)*(?=  )")  # the label of a line that lca.text.facts wrote

Styles = Sequence[Sequence[str]]


def make_console(no_color: bool) -> "Console":
    """Return a console that writes to stdout. Without color, it writes no escape sequences at all."""
    from rich.console import Console

    return Console(color_system=None if no_color else "auto", highlight=False, markup=False, emoji=False)


def print_answer(console: "Console", answer: Answer) -> None:
    """Print the tables and notes of an answer, with signed values in color."""
    for each in answer.tables:
        if each.title:
            print_line(console, each.title, "bold")
        styles = [[""] * len(each.rows), *(color_by_sign(column) for column in each.columns.values())]
        print_table(console, [each.heading, *each.columns], each.cells, list(zip(*styles, strict=True)))
        console.print()
    for line in answer.footer:
        console.print(_color_legend(line) if line == SIGN_NOTE else escape_control(line), soft_wrap=True)


def color_by_sign(column: Column) -> list[str]:
    """Return the style of each value of a column: green below zero and red above, if the column is signed."""
    if not column.signed:
        return [""] * len(column.means)
    return [HELP if mean < 0 else HURT if mean > 0 else "" for mean in column.means]


def print_table(
    console: "Console",
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Styles = (),
    left: Collection[int] = (0,),
) -> None:
    """Print a table whose first column labels the rows.

    Columns that do not fit next to each other are printed below, with the labels repeated. Long labels are folded, but
    other cells never are. If not even one column fits, the plain table is printed. `styles` contains the style of each
    cell, and `left` the indices of the left-aligned columns.
    """
    header, rows = [escape_control(cell) for cell in header], [[escape_control(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    label_width = min(widths[0], console.width - GAP - max(widths[1:], default=0))
    if label_width < min(widths[0], MIN_LABEL_WIDTH):
        print_line(console, table(header, rows, left))
        return
    for i, columns in enumerate(split_columns(widths[1:], console.width - label_width)):
        if i:
            console.print()
        _print_part(console, header, rows, styles, left, [0, *(1 + column for column in columns)], label_width)


def split_columns(widths: Sequence[int], available: int) -> list[list[int]]:
    """Divide columns, given by their widths, into groups that each fit into the available width."""
    parts: list[list[int]] = [[]]
    used = 0
    for i, width in enumerate(widths):
        if parts[-1] and used + GAP + width > available:
            parts.append([])
            used = 0
        parts[-1].append(i)
        used += GAP + width
    return parts


def _print_part(
    console: "Console",
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Styles,
    left: Collection[int],
    columns: Sequence[int],
    label_width: int,
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    part = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")
    for i in columns:
        justify: Literal["left", "right"] = "left" if i in left else "right"
        width = label_width if i == 0 else max(len(row[i]) for row in [header, *rows])
        part.add_column(Text(header[i]), justify=justify, overflow="fold", no_wrap=i > 0, width=width)
    for r, row in enumerate(rows):
        part.add_row(*(Text(row[i], styles[r][i] if styles else "") for i in columns))
    console.print(part, soft_wrap=True)


def print_facts(console: "Console", text: str, verdicts: Mapping[str, bool]) -> None:
    """Print facts, one label and value per line, with the labels in bold.

    `verdicts` maps some of the labels to whether their value is good. Good values are green, and the others red.
    """
    from rich.text import Text

    for line in escape_control(text).splitlines():
        styled = Text(line)
        if found := LABEL.match(line):
            styled.stylize("bold", 0, found.end())
            if found[0] in verdicts:
                styled.stylize(HELP if verdicts[found[0]] else HURT, found.end())
        console.print(styled, soft_wrap=True)


def print_line(console: "Console", text: str, style: str = "") -> None:
    """Print a line without breaking it, so that the terminal wraps it."""
    console.print(escape_control(text), style=style or None, soft_wrap=True)


def _color_legend(line: str) -> "Text":
    """Return the note about the sign of LCA with its two verbs in their colors."""
    from rich.text import Text

    text = Text(line)
    text.highlight_words(["helps"], HELP)
    text.highlight_words(["hurts"], HURT)
    return text
