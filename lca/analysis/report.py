"""The answer to a question over several runs: named rows, mean and standard deviation of each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Column:
    """values: (run, row). digits: decimals worth showing."""

    values: NDArray[np.float64]
    digits: int


@dataclass(frozen=True)
class Report:
    """columns: by their heading, which names the unit. rows: what the values are of.

    n_iterations: of a run. n_left_out: of them, in all runs, those that are not allocated or not finite.
    """

    heading: str
    rows: Sequence[str]
    columns: Mapping[str, Column]
    n_iterations: int
    n_left_out: int

    @property
    def n_runs(self) -> int:
        return len(next(iter(self.columns.values())).values)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with None for what is not a number, such as the deviation of a single run."""

        def cell(values: NDArray[np.float64]) -> dict[str, Any]:
            mean, deviation = mean_and_deviation(values)
            return {"mean": _plain(mean), "deviation": _plain(deviation), "runs": [_plain(value) for value in values]}

        return {
            "runs": self.n_runs,
            "iterations": self.n_iterations,
            "iterations_left_out": self.n_left_out,
            **{
                heading: {row: cell(column.values[:, i]) for i, row in enumerate(self.rows)}
                for heading, column in self.columns.items()
            },
        }


def mean_and_deviation(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """values (run, …) -> the mean over runs and the sample standard deviation, which is NaN for a single run."""
    array = np.asarray(values, np.float64)
    deviation = array.std(axis=0, ddof=1) if len(array) > 1 else np.full(array.shape[1:], np.nan)
    return array.mean(axis=0), np.asarray(deviation)


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
