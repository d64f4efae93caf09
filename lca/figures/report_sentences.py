"""A finding of the report, and the format of the numbers and lists in its sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lca.analysis.statistics import mean_and_deviation

MINUS = "−"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Kind = Literal["learning", "layers", "hurting", "rises", "helping", "certificate"]


@dataclass(frozen=True)
class Finding:
    """A statement about the runs of a report.

    Attributes:
        text: One or more sentences.
        anchor: Section of the report that shows the numbers: "loss", "over-time", "layers", "helping" or "certificate".
        kind: The topic of the finding.
        warns: Whether the finding is a warning, which the page highlights.
    """

    text: str
    anchor: str
    kind: Kind
    warns: bool = False


def significant(value: float, digits: int = 3, signed: bool = False) -> str:
    """Return a number with this many significant digits, such as "2.21", "−0.0147", "1,230" or "3.10 × 10⁻⁵".

    With `signed`, a positive number begins with "+".
    """
    if not np.isfinite(value):
        return "not finite"
    exponent = _find_exponent(value, digits)
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    if -5 < exponent < 7:
        return f"{sign}{abs(value):,.{max(0, digits - 1 - exponent)}f}"
    power = str(exponent).translate(SUPERSCRIPTS)
    return f"{sign}{abs(value) / 10.0**exponent:.{digits - 1}f} × 10{power}"


def spread(values: ArrayLike, digits: int = 3, signed: bool = False) -> str:
    """Return the mean of the values over runs, with its standard deviation if there are several values."""
    mean, deviation = map(float, mean_and_deviation(values))
    if not deviation > 0:
        return significant(mean, digits, signed)
    decimals = max(0, digits - 1 - _find_exponent(max(abs(mean), deviation), digits))
    sign = MINUS if mean < 0 else "+" if signed and mean > 0 else ""
    return f"{sign}{abs(mean):,.{decimals}f} ± {deviation:,.{decimals}f}"


def enumerate_words(words: Sequence[str]) -> str:
    """Join words as in "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def enumerate_some(words: Sequence[str], n: int = 3) -> str:
    """Join the first n words, and count the others: "a, b, c and 4 more"."""
    return enumerate_words([*words[:n], f"{len(words) - n:,} more"] if len(words) > n else words)


def _find_exponent(value: float, digits: int) -> int:
    """Return the power of ten of the first digit after rounding, or 0 for 0."""
    return floor(log10(float(f"{abs(value):.{digits - 1}e}"))) if value else 0
