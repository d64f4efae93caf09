"""The input of a figure: runs, which are analyzed first, or the results of an earlier analysis."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from lca.analysis.question import RunLike, open_runs
from lca.errors import UsageError
from lca.figures.style import Look
from lca.store.run import Run

R = TypeVar("R")
Runs: TypeAlias = RunLike | R | Sequence[RunLike] | Sequence[R]


def ask(
    question: Callable[..., Sequence[R]], kind: type[R], runs: Runs[R], look: Look, *, name: str, **options: Any
) -> tuple[Sequence[R], Look]:
    """Return the results to draw, and the look with a title.

    Results of class `kind` are returned unchanged. Otherwise the runs are opened and passed to `question` with the
    options, and the look gets a title unless it already has one.
    """
    given = list_given(runs)
    if given and all(isinstance(each, kind) for each in given):
        return given, look
    opened = open_given(given, f"lca.analysis.{kind.__name__}")
    return question(opened, name=name, **options), add_heading(look, opened, name)


def ask_one(
    question: Callable[..., Sequence[R]], kind: type[R], runs: Runs[R], look: Look, *, name: str, **options: Any
) -> tuple[R, Look]:
    """Return the result to draw and the look with a title, for a figure that shows a single run."""
    require_one(list_given(runs))
    results, look = ask(question, kind, runs, look, name=name, **options)
    return results[0], look


def open_one(runs: Runs[Any], look: Look, name: str) -> tuple[Run, Look]:
    """Open a single run for a figure that reads it directly, and return it with a look that has a title."""
    given = list_given(runs)
    require_one(given)
    (run,) = open_given(given)
    return run, add_heading(look, [run], name)


def list_given(runs: Any) -> list[Any]:
    """Return a sequence as a list, and any other object as a list of one."""
    is_one = isinstance(runs, str | bytes) or not isinstance(runs, Sequence)
    return [runs] if is_one else list(runs)


def open_given(given: Sequence[Any], result: str = "") -> list[Run]:
    """Open the runs, and raise UsageError if any element is not a run.

    `result` names the class of results that the figure also accepts, for the error message.
    """
    for each in given:
        if not isinstance(each, Run | Path | str):
            kinds = ["a path", "an lca.Run", *([f"an {result}"] if result else [])]
            raise UsageError(
                "runs", expected=f"{', '.join(kinds)}, or a list of one kind", found=f"a {type(each).__name__}"
            )
    return open_runs(given)


def require_results(given: Mapping[str, Any], kind: type[Any]) -> None:
    """Raise UsageError unless the mapping is non-empty and all its values are of class `kind`."""
    others = [type(each).__name__ for each in given.values() if not isinstance(each, kind)]
    if others or not given:
        expected = f"an lca.analysis.{kind.__name__} for each name"
        raise UsageError("runs", expected=expected, found=f"a {others[0]}" if others else "none")


def require_one(given: Sequence[Any]) -> None:
    """Raise UsageError unless the sequence has exactly one element."""
    if len(given) != 1:
        raise UsageError("runs", expected="one, because this figure shows a single run", found=str(len(given)))


def add_heading(look: Look, runs: Sequence[Run], name: str) -> Look:
    """Return the look with the default title, unless it already has a title."""
    return replace(look, title=heading(runs, name)) if look.title is None else look


def heading(runs: RunLike | Sequence[RunLike], name: str = "train") -> str:
    """Return the default title of a figure of these runs.

    Args:
        runs: One or more runs, as paths or ``Run`` objects.
        name: Name of the allocation.

    Returns:
        The name of the problem, the loss that is allocated, and the number of runs if there are several.

    Raises:
        UsageError: ``runs`` is empty.

    Example:
        >>> lca.figures.heading("run.zarr")
        'mnist-fc, LCA of the train loss'
    """
    opened = open_runs(runs)
    problem = opened[0].attributes.get("problem")
    number = f", {len(opened)} runs" if len(opened) > 1 else ""
    return (f"{problem}, " if problem else "") + f"LCA of the {name} loss{number}"
