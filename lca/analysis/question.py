"""What all questions share: one signature, and results that print as their tables."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from lca.analysis.answer import Answer
from lca.errors import UsageError
from lca.store.run import Run, open_run

RunLike = Run | Path | str

P = ParamSpec("P")
R = TypeVar("R", bound="Result")
Found = TypeVar("Found", bound="Result", covariant=True)


class Result:
    """The result of a question for one run; repr() gives its tables."""

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The tables of the results of several runs of the same model."""
        raise NotImplementedError

    def to_answer(self) -> Answer:
        """Its tables, for people and for programs."""
        return self.tabulate([self])

    def __repr__(self) -> str:
        return str(self.to_answer())


class Results(tuple[Found, ...], Generic[Found]):
    """The results of a question for several runs, in their order; repr() gives mean ± standard deviation over them."""

    def to_answer(self) -> Answer:
        """Their tables, for people and for programs."""
        return type(self[0]).tabulate(self)

    def __repr__(self) -> str:
        return str(self.to_answer())


class Question(Protocol[P, Found]):
    """A question takes one run and returns its result, or several runs of the same model and returns Results."""

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
    """Make a function of a single Run a question: of a path, a Run, or several of them.

    divide: an option that several runs share equally, such as memory.
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
    """The run itself, or the one at a path or URL."""
    if isinstance(run, Run):
        return run
    if isinstance(run, Path | str):
        return open_run(run)
    raise UsageError(
        "runs", expected="a path, an lca.Run, or a list of them", found=f"an object of type {type(run).__name__}"
    )


def open_runs(runs: RunLike | Sequence[RunLike]) -> list[Run]:
    """Runs of the same model, so that they can be averaged."""
    if isinstance(runs, Path | str) or not isinstance(runs, Iterable):
        runs = [runs]
    opened = [as_run(run) for run in runs]
    if not opened:
        raise UsageError("runs", expected="at least one run", found="none")
    for run in opened[1:]:
        opened[0].parameters.require_same(run.parameters, str(opened[0].path), str(run.path))
    return opened
