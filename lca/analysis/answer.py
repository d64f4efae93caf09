"""The answer to a question over several runs, for people and for programs: tables, notes, and what they rest on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lca.analysis.iterations import Iterations, describe_left_out
from lca.analysis.statistics import mean_and_deviation
from lca.text import pluralize, plus_minus, table


def format_p(p: float) -> str:
    """A p-value with two digits; a dash where there is nothing to test."""
    return "–" if np.isnan(p) else f"{p:.2g}" if p >= 1e-16 else "< 1e-16"


def format_whole(value: float) -> str:
    """ "1,234"."""
    return f"{value:,.0f}"


@dataclass(frozen=True)
class Column:
    """values: (run, row), or (1, row) for what is of all runs together. digits: decimals worth showing.

    text: how a mean is written instead, where there is no deviation to go with it.
    """

    values: NDArray[np.float64]
    digits: int = 2
    text: Callable[[float], str] | None = None

    @classmethod
    def of(cls, rows: ArrayLike, digits: int = 2, text: Callable[[float], str] | None = None) -> "Column":
        """A value for each row, of all runs together."""
        return cls(np.asarray(rows, np.float64)[None], digits, text)

    @property
    def cells(self) -> list[str]:
        """The text of each row."""
        means, deviations = mean_and_deviation(self.values)
        return [self.format(float(mean), float(deviation)) for mean, deviation in zip(means, deviations, strict=True)]

    def format(self, mean: float, deviation: float = float("nan")) -> str:
        """A value of the table; a dash for NaN."""
        if mean != mean:
            return "–"
        return self.text(mean) if self.text else plus_minus(mean, deviation, self.digits)


@dataclass(frozen=True)
class Table:
    """A table; str() gives it as text.

    heading: of the rows. rows: what the values belong to. columns: by their headings, which name the unit.
    title: of the table.
    """

    heading: str
    rows: Sequence[str]
    columns: Mapping[str, Column]
    title: str = ""

    def to_json(self) -> dict[str, Any]:
        def cell(values: NDArray[np.float64]) -> dict[str, Any]:
            mean, deviation = mean_and_deviation(values)
            return {"mean": _plain(mean), "deviation": _plain(deviation), "values": [_plain(value) for value in values]}

        return {
            "title": self.title,
            "columns": {
                heading: {row: cell(column.values[:, i]) for i, row in enumerate(self.rows)}
                for heading, column in self.columns.items()
            },
        }

    def __str__(self) -> str:
        rows = [list(row) for row in zip(self.rows, *(column.cells for column in self.columns.values()), strict=True)]
        title = f"{self.title}\n" if self.title else ""
        return title + table([self.heading, *self.columns], rows)


@dataclass(frozen=True)
class Answer:
    """Tables with mean ± standard deviation over the runs, and what they rest on; str() gives it as text.

    iterations: of each run. notes: a line each. arrays: what programs need and people do not read, by name.
    """

    question: str
    tables: Sequence[Table]
    iterations: Sequence[Iterations]
    notes: Sequence[str] = ()
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with None for what is not a number, such as the deviation of a single run."""
        return {
            "question": self.question,
            "runs": len(self.iterations),
            "iterations": [len(run.counted) for run in self.iterations],
            "iterations_left_out": [run.left_out for run in self.iterations],
            "tables": [table.to_json() for table in self.tables],
            "notes": list(self.notes),
            **{name: _plain_array(values) for name, values in self.arrays.items()},
        }

    def __str__(self) -> str:
        n_runs = len(self.iterations)
        lengths = {len(run.counted) for run in self.iterations}
        iterations = " or ".join(f"{T:,}" for T in sorted(lengths)) + " iterations"
        left_out = describe_left_out(self.iterations)
        last = "; ".join([f"{iterations}, {pluralize(n_runs, 'run')}", *([left_out] if left_out else [])])
        return "\n\n".join([*map(str, self.tables), "\n".join([*self.notes, last])])


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain_array(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, Mapping):
        return {name: _plain_array(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain_array(value) for value in values]
    return _plain(values) if isinstance(values, float) else values
