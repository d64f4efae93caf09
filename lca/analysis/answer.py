"""Answers to questions about one or more runs: tables and notes as text, HTML, JSON and data frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from importlib.util import find_spec
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lca.analysis.iterations import Iterations, describe_exclusions, describe_totals, describe_unconverged
from lca.analysis.statistics import correct_for_rows, mean_and_deviation
from lca.errors import UsageError
from lca.text import html_table, pluralize, plus_minus, table

if TYPE_CHECKING:
    from pandas import DataFrame

SIGN_NOTE = "LCA below 0 lowers the loss (helps), above 0 raises it (hurts)."


def format_p(p: float) -> str:
    """Format a p-value with two significant digits, or as a dash if it is NaN because no test was possible."""
    return "–" if np.isnan(p) else f"{p:.2g}" if p >= 1e-16 else "< 1e-16"


def format_whole(value: float) -> str:
    """Format a whole number with thousands separators, such as "1,234"."""
    return f"{value:,.0f}"


@dataclass(frozen=True)
class Column:
    """The values of one column of a table.

    Attributes:
        values: One value per run and row, shape (runs, rows). The shape is (1, rows) if the values describe all runs
            together.
        digits: Number of decimals shown. By default, the largest value of the column is shown with five significant
            digits.
        text: Function that formats the mean of a row. Without it, the mean is shown with ``digits`` decimals and, for
            several runs, the standard deviation.
        signed: Whether the values are LCA, so that values below 0 help and values above 0 hurt.
        combined: Whether the values describe all runs together, as p-values do.
    """

    values: NDArray[np.float64]
    digits: int | None = None
    text: Callable[[float], str] | None = None
    signed: bool = False
    combined: bool = False

    @classmethod
    def of(
        cls,
        rows: ArrayLike,
        digits: int | None = None,
        text: Callable[[float], str] | None = None,
        signed: bool = False,
    ) -> "Column":
        """Create a column with one value per row that describes all runs together."""
        return cls(np.asarray(rows, np.float64)[None], digits, text, signed, combined=True)

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean over runs of each row, shape (rows,)."""
        return mean_and_deviation(self.values)[0]

    @property
    def cells(self) -> list[str]:
        """The formatted mean of each row, with the standard deviation if there are several runs."""
        means, deviations = mean_and_deviation(self.values)
        return [self.format(float(mean), float(deviation)) for mean, deviation in zip(means, deviations, strict=True)]

    def format(self, mean: float, deviation: float = float("nan")) -> str:
        """Format the mean and standard deviation of one row. NaN becomes a dash."""
        if mean != mean:
            return "–"
        if self.text:
            return self.text(mean)
        if self.digits is None and not -5 <= self._exponent <= 6:
            return f"{mean:.4e}" if deviation != deviation else f"{mean:.4e} ± {deviation:.1e}"
        return plus_minus(mean, deviation, max(0, 4 - self._exponent) if self.digits is None else self.digits)

    @cached_property
    def _exponent(self) -> int:
        """The power of ten of the largest mean of the column."""
        largest = float(np.max(np.abs(self.means), initial=0.0, where=np.isfinite(self.means)))
        return floor(log10(largest)) if largest else 0

    def expand(self, n_runs: int) -> NDArray[np.float64]:
        """Return the values with shape (n_runs, rows).

        Values that describe all runs together are repeated. Otherwise, missing runs are filled with NaN.
        """
        if self.combined:
            return np.broadcast_to(self.values, (n_runs, self.values.shape[1]))
        missing = np.full((n_runs - len(self.values), self.values.shape[1]), np.nan)
        return np.concatenate([self.values, missing])


def list_p_values(test: str, p: ArrayLike) -> dict[str, Column]:
    """Return two columns by heading: the p-values of a test, and the same values corrected for the number of rows."""
    values = {f"p ({test})": p, "p (Holm)": correct_for_rows(p)}
    return {heading: Column.of(each, text=format_p) for heading, each in values.items()}


@dataclass(frozen=True)
class Table:
    """A table of numbers, averaged over runs. ``str()`` returns it as text.

    Attributes:
        heading: Heading of the rows, such as "layer".
        rows: Labels of the rows.
        columns: The columns by heading. A heading includes the unit.
        title: Title of the table.
    """

    heading: str
    rows: Sequence[str]
    columns: Mapping[str, Column]
    title: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the title and, by column and row, the mean, the standard deviation and the value of every run."""

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

    def to_frame(self) -> "DataFrame":
        """Return the values as a ``pandas.DataFrame`` with one column of numbers per column of the table.

        For a single run, the index contains the labels of the rows and is named after their heading. For several runs,
        a second index level, "run", numbers the runs from 0. Values that describe all runs together, such as p-values,
        are repeated for each run.

        Raises:
            UsageError: If pandas is not installed.

        Example:
            >>> lca.analysis.layers("run.zarr").to_frame()["LCA (nats)"].sort_values()
        """
        if find_spec("pandas") is None:
            raise UsageError(
                "pandas is not installed", remedy="Install it with: pip install 'loss-change-allocation[pandas]'"
            )
        from pandas import DataFrame, Index, MultiIndex

        n_runs = max(len(column.values) for column in self.columns.values())
        index = Index(self.rows, name=self.heading)
        if n_runs > 1:
            index = MultiIndex.from_product([self.rows, range(n_runs)], names=[self.heading, "run"])
        values = {heading: column.expand(n_runs).T.ravel() for heading, column in self.columns.items()}
        return DataFrame(values, index=index)

    @property
    def cells(self) -> list[list[str]]:
        """The text of the cells of each row, beginning with the label of the row."""
        return [list(row) for row in zip(self.rows, *(column.cells for column in self.columns.values()), strict=True)]

    def _repr_html_(self) -> str:
        return html_table([self.heading, *self.columns], self.cells, self.title)

    def __str__(self) -> str:
        title = f"{self.title}\n" if self.title else ""
        return title + table([self.heading, *self.columns], self.cells)


@dataclass(frozen=True)
class Answer:
    """The answer to a question about one or more runs of a model. ``str()`` returns it as text.

    Attributes:
        question: Name of the question.
        tables: Tables with the mean and standard deviation over runs.
        iterations: The iterations that were used, for each run.
        notes: Sentences that explain the tables.
        arrays: Further results that are written to JSON but not shown.
    """

    question: str
    tables: Sequence[Table]
    iterations: Sequence[Iterations]
    notes: Sequence[str] = ()
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as a dictionary of plain values for JSON. Numbers that are not finite become None."""
        return {
            "question": self.question,
            "runs": len(self.iterations),
            "iterations": [len(run.mask) for run in self.iterations],
            "iterations_left_out": [run.exclusions for run in self.iterations],
            "tables": [table.to_json() for table in self.tables],
            "notes": list(self.notes),
            **{name: _plain_array(values) for name, values in self.arrays.items()},
        }

    def to_frame(self, table: int | str = 0) -> "DataFrame":
        """Return one of the tables as a ``pandas.DataFrame``, as described in ``Table.to_frame``.

        Args:
            table: Position, counted from 0, or title of the table.

        Raises:
            UsageError: If there is no such table, or pandas is not installed.
        """
        found = [each for i, each in enumerate(self.tables) if table == i or (each.title and table == each.title)]
        if not found:
            titles = ", ".join(repr(each.title) for each in self.tables if each.title)
            expected = f"a position from 0 to {len(self.tables) - 1}" + (f" or a title ({titles})" if titles else "")
            raise UsageError("table", expected=expected, found=repr(table))
        return found[0].to_frame()

    @property
    def footer(self) -> list[str]:
        """The lines below the tables: notes, the meaning of the sign of LCA, and the number of runs and iterations."""
        signed = any(column.signed for table in self.tables for column in table.columns.values())
        lengths = " or ".join(f"{T:,}" for T in sorted({len(run.mask) for run in self.iterations}))
        used = f"{pluralize(len(self.iterations), 'run')} of {lengths} iterations"
        exclusions = describe_exclusions(self.iterations)
        last = f"{used} ({exclusions})." if exclusions else f"{used}."
        totals = [SIGN_NOTE, *describe_totals(self.iterations)] if signed and self.iterations else []
        return [*self.notes, *totals, *describe_unconverged(self.iterations), last]

    def _repr_html_(self) -> str:
        tables = "".join(table._repr_html_() for table in self.tables)
        return f"{tables}<p>{'<br>'.join(map(escape, self.footer))}</p>"

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.tables), "\n".join(self.footer)])


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
