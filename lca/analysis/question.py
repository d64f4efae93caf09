"""The common interface of all questions: which runs they accept, and how their results are shown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from lca.analysis.answer import Answer
from lca.analysis.iterations import Iterations
from lca.errors import UsageError
from lca.store.run import Run, open_run

if TYPE_CHECKING:
    from pandas import DataFrame

RunLike = Run | Path | str

P = ParamSpec("P")
R = TypeVar("R", bound="Result")
Found = TypeVar("Found", bound="Result", covariant=True)


class Result:
    """The result of a question about one run. ``repr()`` returns its tables as text. Notebooks show them as HTML."""

    iterations: Any

    @property
    def unit(self) -> str:
        """Unit of the loss and of LCA, such as "nats"."""
        used = self.iterations.values() if isinstance(self.iterations, Mapping) else self.iterations
        first: Iterations = used if isinstance(used, Iterations) else next(iter(used))
        return first.unit

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Combine the results of several runs of the same model into one answer.

        Args:
            results: One result per run.
        """
        raise NotImplementedError

    def to_answer(self) -> Answer:
        """Return the tables and notes of this result."""
        return self.tabulate([self])

    def to_frame(self, table: int | str = 0) -> "DataFrame":
        """Return a table of this result as a ``pandas.DataFrame`` of numbers, indexed by the labels of its rows.

        Args:
            table: Position, counted from 0, or title of the table. By default, the first table.

        Raises:
            UsageError: If there is no such table, or pandas is not installed.

        Example:
            >>> lca.analysis.layers("run.zarr").to_frame().loc["fc1", "LCA (nats)"]
        """
        return self.to_answer().to_frame(table)

    def _repr_html_(self) -> str:
        return self.to_answer()._repr_html_()

    def __repr__(self) -> str:
        return str(self.to_answer())


class Results(tuple[Found, ...], Generic[Found]):
    """The results of a question about several runs, in the order of the runs.

    ``repr()`` returns tables with the mean and standard deviation over runs. Notebooks show them as HTML.
    """

    def to_answer(self) -> Answer:
        """Return tables and notes that combine all runs."""
        return type(self[0]).tabulate(self)

    def to_frame(self, table: int | str = 0) -> "DataFrame":
        """Return a table as a ``pandas.DataFrame`` with one row for each label and run.

        The index has two levels: the labels of the table's rows, and "run", which numbers the runs from 0. A table that
        describes a single run has only the first level.

        Args:
            table: Position, counted from 0, or title of the table. By default, the first table.

        Raises:
            UsageError: If there is no such table, or pandas is not installed.

        Example:
            >>> lca.analysis.layers(["run-0.zarr", "run-1.zarr"]).to_frame().groupby("layer").mean()
        """
        return self.to_answer().to_frame(table)

    def _repr_html_(self) -> str:
        return self.to_answer()._repr_html_()

    def __repr__(self) -> str:
        return str(self.to_answer())


class Question(Protocol[P, Found]):
    """A function that takes one run and returns its result, or takes several runs and returns their Results."""

    __name__: str

    @overload
    def __call__(self, runs: RunLike, /, *args: P.args, **options: P.kwargs) -> Found: ...  # type: ignore[overload-overlap]  # a str is a sequence too
    @overload
    def __call__(self, runs: Sequence[RunLike], /, *args: P.args, **options: P.kwargs) -> "Results[Found]": ...


@overload
def question(ask: Callable[Concatenate[Run, P], R]) -> Question[P, R]: ...
@overload
def question(*, divide: str) -> Callable[[Callable[Concatenate[Run, P], R]], Question[P, R]]: ...
def question(ask: Callable[..., Any] | None = None, *, divide: str = "") -> Any:
    """Turn a function of one ``Run`` into a question, which also accepts paths and sequences of runs.

    `divide` names an option, such as a memory limit, that is divided equally among several runs.
    """
    return _make_question(ask, divide) if ask else lambda ask: _make_question(ask, divide)


def _make_question(ask: Callable[..., R], divide: str) -> Callable[..., R | Results[R]]:
    default = signature(ask).parameters[divide].default if divide else 0

    @wraps(ask)
    def answer(runs: Any, *args: Any, **options: Any) -> R | Results[R]:
        if isinstance(runs, Run | Path | str):
            return ask(as_run(runs), *args, **options)
        opened = open_runs(runs)
        if divide:
            options[divide] = max(options.get(divide, default) // len(opened), 1)
        return Results(ask(run, *args, **options) for run in opened)

    return answer


def as_run(run: RunLike) -> Run:
    """Return the run itself, or open the run at a path or URL."""
    if isinstance(run, Run):
        return run
    if isinstance(run, Path | str):
        return open_run(run)
    raise UsageError(
        "runs", expected="a path, an lca.Run, or a list of them", found=f"an object of type {type(run).__name__}"
    )


def open_runs(runs: RunLike | Sequence[RunLike]) -> list[Run]:
    """Open one or more runs. Raises LCAError if their models differ, because such runs cannot be averaged."""
    if isinstance(runs, Path | str) or not isinstance(runs, Iterable):
        runs = [runs]
    opened = [as_run(run) for run in runs]
    if not opened:
        raise UsageError("runs", expected="at least one run", found="none")
    for run in opened[1:]:
        opened[0].parameters.require_same(run.parameters, str(opened[0].path), str(run.path))
    return opened
