"""Progress on stderr: a bar on a terminal, a line now and then where it goes to a file."""

import io
import sys
from typing import Any

from tqdm import tqdm


class _Lines(io.TextIOBase):
    """What tqdm writes, each state on a line of its own."""

    def write(self, text: str) -> int:
        if text.strip():
            sys.stderr.write(text.strip() + "\n")
            sys.stderr.flush()
        return len(text)


def make_progress_bar(total: int, description: str, *, shown: bool) -> "tqdm[Any]":
    """A progress bar over a known number of iterations; with shown=False it stays silent."""
    options: dict[str, Any] = {"total": total, "desc": description, "disable": not shown, "unit": "it"}
    if sys.stderr.isatty():
        return tqdm(**options, dynamic_ncols=True)
    return tqdm(
        **options, file=_Lines(), mininterval=30, maxinterval=60, bar_format="{desc}: {percentage:.0f}% {r_bar}"
    )
