"""What a measurement comes to, and how it is told and judged."""

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

SIGNIFICANT = 0.05  # p-values below


@dataclass(frozen=True)
class Measured:
    """told: what was measured, in words. agrees: by the criterion of the finding; None where that cannot be said."""

    told: str
    agrees: bool | None


@dataclass(frozen=True)
class Finding:
    """where: in the paper. says: what it says. criterion: when we agree. figures: names of paper.drawings."""

    where: str
    says: str
    criterion: str
    measure: Callable[[Archive], Measured]
    figures: Sequence[str] = ()


def spread(values: Any, digits: int = 2, unit: str = "") -> str:
    """Mean ± standard deviation over runs."""
    mean, deviation = mean_and_deviation(np.asarray(values, np.float64))
    return plus_minus(float(mean), float(deviation), digits) + (f" {unit}" if unit else "")


def describe_layer(name: str, values: Floats) -> str:
    """values (run,), in nats, with the p-value that their mean is 0."""
    p = differs_from_zero(values[:, None])[0]
    return f"{name} {spread(values, 4, 'nats')}" + ("" if np.isnan(p) else f" (p = {format_p(p)})")


def against(changed: Floats, regular: Floats) -> str:
    """Both (run,), in nats, with the p-value that they are the same."""
    p = p_between(changed, regular)
    return f"{spread(changed, 4)} against {spread(regular, 4)} nats" + ("" if np.isnan(p) else f" (p = {format_p(p)})")


def p_between(changed: Floats, regular: Floats) -> float:
    """Welch's; NaN where a group has a single run."""
    return float(differs_between(regular[:, None], changed[:, None])[0])


def clearly(values: Floats, sign: int) -> bool | None:
    """Whether values (run,) have this sign, by a t-test, of two runs by both of them; None of a single run."""
    if len(values) == 1:
        return None
    if len(values) == 2 or not np.ptp(values):
        return bool((sign * values > 0).all())
    return bool(sign * values.mean() > 0 and differs_from_zero(values[:, None])[0] < SIGNIFICANT)


def clearly_less(changed: Floats, regular: Floats) -> bool | None:
    """Whether the mean of the first is below that of the second, by a t-test; None where there is none."""
    p = p_between(changed, regular)
    return None if np.isnan(p) else bool(changed.mean() < regular.mean() and p < SIGNIFICANT)


def all_of(parts: Iterable[bool | None]) -> bool | None:
    """None where that cannot be said."""
    parts = list(parts)
    return False if False in parts else None if None in parts else True
