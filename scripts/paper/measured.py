"""Findings and measurements, with the statistics that judge them and the format of their numbers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lca.analysis.answer import format_p
from lca.analysis.statistics import differs_between, differs_from_zero, mean_and_deviation
from lca.text import plus_minus
from paper.archive import Archive

Floats = NDArray[np.float64]

SIGNIFICANT = 0.05  # p-values below this are significant


@dataclass(frozen=True)
class Measured:
    """The outcome of a measurement.

    text: Description of what was measured.
    agrees: Whether the criterion of the finding is met, or None if that cannot be decided.
    """

    text: str
    agrees: bool | None


@dataclass(frozen=True)
class Finding:
    """A finding of the paper.

    source: Section, table or figure of the paper.
    statement: Statement of the paper, sometimes abridged.
    criterion: Condition under which the reproduction agrees.
    measure: Function that measures the quantity and applies the criterion.
    figures: Names of figures in paper.drawings.
    """

    source: str
    statement: str
    criterion: str
    measure: Callable[[Archive], Measured]
    figures: Sequence[str] = ()


def format_mean(values: Any, digits: int = 2, unit: str = "") -> str:
    """Format the mean ± standard deviation over runs."""
    mean, deviation = mean_and_deviation(np.asarray(values, np.float64))
    return plus_minus(float(mean), float(deviation), digits) + (f" {unit}" if unit else "")


def describe_layer(name: str, values: Floats) -> str:
    """Format the LCA of a layer in nats, shape (run,), with the p-value of the hypothesis that its mean is 0."""
    p = differs_from_zero(values[:, None])[0]
    return f"{name} {format_mean(values, 4, 'nats')}" + ("" if np.isnan(p) else f" (p = {format_p(p)})")


def compare_groups(changed: Floats, regular: Floats) -> str:
    """Format two groups of runs, in nats and of shape (run,), with the p-value of the hypothesis of equal means."""
    p = p_of_equal_means(changed, regular)
    return f"{format_mean(changed, 4)} compared with {format_mean(regular, 4)} nats" + (
        "" if np.isnan(p) else f" (p = {format_p(p)})"
    )


def p_of_equal_means(changed: Floats, regular: Floats) -> float:
    """Return the p-value of Welch's t-test, or NaN if a group has a single run."""
    return float(differs_between(regular[:, None], changed[:, None])[0])


def has_sign(values: Floats, sign: int) -> bool | None:
    """Return whether values of shape (run,) significantly have this sign, or None for a single run.

    Three or more runs are judged by a t-test. With two runs, both must have the sign.
    """
    if len(values) == 1:
        return None
    if len(values) == 2 or not np.ptp(values):
        return bool((sign * values > 0).all())
    return bool(sign * values.mean() > 0 and differs_from_zero(values[:, None])[0] < SIGNIFICANT)


def is_lower(changed: Floats, regular: Floats) -> bool | None:
    """Return whether the first mean is significantly lower, or None if a group has a single run."""
    p = p_of_equal_means(changed, regular)
    return None if np.isnan(p) else bool(changed.mean() < regular.mean() and p < SIGNIFICANT)


def all_agree(parts: Iterable[bool | None]) -> bool | None:
    """Return False if any part is False, otherwise None if any part is None, otherwise True."""
    parts = list(parts)
    return False if False in parts else None if None in parts else True
