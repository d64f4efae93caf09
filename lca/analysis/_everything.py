"""Asks all questions that the arrays of a run can answer, and reads each large array once if possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from lca.analysis._error import Errors, error
from lca.analysis._helping import Helping, SignCounts
from lca.analysis._layers import Layers, layers
from lca.analysis._neurons import MAX_CELLS, Neurons, NeuronSums
from lca.analysis._oscillation import Directions, Oscillation
from lca.analysis._overfit import Overfit, Pair
from lca.analysis._subset import Subset, subset
from lca.analysis._synchrony import Synchrony, synchrony
from lca.analysis._tails import Distribution, Tails
from lca.analysis.answer import Answer
from lca.analysis.cancellation import feed_lca
from lca.analysis.iterations import choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import Consumer
from lca.errors import Argument, Call, LCAError, Remedy
from lca.store.allocation import Allocation
from lca.store.run import Run

RESULTS: dict[str, type[Result]] = {
    "helping": Helping,
    "layers": Layers,
    "neurons": Neurons,
    "oscillation": Oscillation,
    "tails": Tails,
    "synchrony": Synchrony,
    "overfit": Overfit,
    "error": Errors,
    "subset": Subset,
}


@dataclass(frozen=True, repr=False)
class Everything(Result):
    """The results of all questions that a run can answer.

    Attributes:
        run: Path of the run.
        answers: Results by question. They equal the results of asking each question separately.
        unanswered: One error per question, or part of a question, that has no result. Each error states the reason and
            the remedy.
    """

    run: str
    answers: dict[str, Result]
    unanswered: dict[str, LCAError]

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """Collect the tables of all questions that every run can answer."""
        found = combine(results)
        tables = [
            replace(table, title=f"{answer.question}: {table.title}" if table.title else answer.question)
            for answer in found.answers
            for table in answer.tables
        ]
        notes = [f"{answer.question}: {note}" for answer in found.answers for note in answer.notes]
        notes += [f"{asked}: not answered, because {lacking}" for asked, lacking in found.unanswered.items()]
        iterations = next(answer.iterations for answer in found.answers if answer.question == "layers")
        return Answer("everything", tables, iterations, notes, {a.question: a.arrays for a in found.answers})


@dataclass(frozen=True)
class Combined:
    """The answers of several runs to all questions.

    Attributes:
        answers: Answers to the questions that every run can answer.
        unanswered: One error per question, or part of a question, that some run cannot answer. Each error states the
            reason and the remedy.
    """

    answers: list[Answer]
    unanswered: dict[str, LCAError]


@question(divide="max_cells")
def everything(
    run: Run,
    *,
    name: str = "train",
    max_cells: int = MAX_CELLS,
    subsets: bool = True,
) -> Everything:
    """Ask every question for which the run has the arrays, with the default options of each question.

    The result of ``synchrony`` includes LCA by class if the allocation has it. ``overfit`` uses the allocation "val",
    or "test" if "val" is missing or incomplete. Asking all questions at once is faster than asking them one by one,
    because each large array is read only once.

    Args:
        run: Path or URL of a run, an ``lca.Run``, or a sequence of these for several runs of the same model.
        name: Name of the allocation.
        max_cells: Largest number of values (8 bytes each) that ``neurons`` keeps for all runs together.
        subsets: Whether to ask ``subset`` too, which reads the LCA of each parameter once more.

    Returns:
        The results by question, and the reasons why the other questions have none.

    Raises:
        LCAError: If the run has no such allocation, or the allocation has no usable iteration.

    Example:
        >>> lca.analysis.everything("run.zarr").answers["layers"]
    """
    allocation = run.allocation(name)
    choose_iterations(allocation)  # raises if no iteration is usable
    answers: dict[str, Result] = {}
    unanswered = _find_lacking(run, allocation)

    def ask(asked: str, find: Callable[[], Result]) -> None:
        """Ask a question and store its result or its error, so that a failure does not affect the other questions."""
        if asked not in unanswered:
            try:
                answers[asked] = find()
            except LCAError as failure:
                unanswered[asked] = failure

    by_class = "class_lca" in allocation.arrays
    ask("layers", lambda: layers(run, name=name))
    ask("error", lambda: error(run))
    ask("synchrony", lambda: synchrony(run, name=name, by_class=by_class))
    pair: Pair | None = None
    if "overfit" not in unanswered:
        try:
            pair = Pair(run, name, str(_find_held_out(run, allocation)))
        except LCAError as failure:
            unanswered["overfit"] = failure
    if "lca" in allocation.arrays:
        answers |= _ask_parts(run, allocation, max_cells, pair.sums[:1] if pair else [])
        if subsets:
            ask("subset", lambda: subset(run, name=name))
    if pair:
        if pair.sums:
            feed_lca(run, pair.allocations[1], pair.chosen.mask, pair.sums[1:])
        answers["overfit"] = pair.result()
    return Everything(str(run.path), answers, unanswered)


def combine(results: Sequence[Everything]) -> Combined:
    """Combine the results of several runs of the same model.

    Args:
        results: The results of ``everything``, one per run.

    Returns:
        Tables that combine all runs, for every question that all of them can answer.

    Example:
        >>> lca.analysis.combine(lca.analysis.everything(["run-0.zarr", "run-1.zarr"])).answers
    """
    answers, unanswered = [], {}
    for asked, of in RESULTS.items():
        found = [result.answers[asked] for result in results if asked in result.answers]
        if len(found) == len(results):
            try:
                answers.append(of.tabulate(found))
            except LCAError as failure:  # the runs have no allocation in common
                unanswered[asked] = failure
    for asked in dict.fromkeys(asked for result in results for asked in result.unanswered):
        first, *others = (result for result in results if asked in result.unanswered)
        unanswered[asked] = _add_runs(first.unanswered[asked], [other.run for other in others])
    return Combined(answers, unanswered)


def _add_runs(lacking: LCAError, others: Sequence[str]) -> LCAError:
    """Return the error with an additional sentence that names the other runs to which the error applies."""
    if not others:
        return lacking
    parts = (lacking.remedy,) if isinstance(lacking.remedy, str) else lacking.remedy
    also = f"{' ' if lacking.remedy else ''}The same holds for {', '.join(others)}."
    return LCAError(lacking.message, expected=lacking.expected, found=lacking.found, remedy=(*parts, also))


def _ask_parts(run: Run, allocation: Allocation, max_cells: int, others: Sequence[Consumer]) -> dict[str, Result]:
    """Read the LCA of each parameter once to answer all questions that need it, and feed the other consumers too."""
    chosen = choose_iterations(allocation)
    signs, sums = SignCounts(run.parameters, chosen), NeuronSums(run, allocation, chosen, max_cells)
    distribution = Distribution(allocation, chosen)
    directions = Directions(run, allocation.name, chosen, "gradient_sign" in allocation.arrays)
    feed_lca(run, allocation, chosen.mask, [signs, sums, distribution, directions.of_lca, *others])
    directions.feed_others()
    return {
        "helping": signs.result(allocation),
        "neurons": sums.result(),
        "oscillation": directions.result(),
        "tails": distribution.result(),
    }


def _find_held_out(run: Run, allocation: Allocation) -> str | None:
    """Return the name of a complete allocation of a held-out split, preferring val to test, or None."""
    if allocation.attributes["split"] != "train":
        return None
    found = [name for name in ("val", "test") if name in run.allocations]
    return next((name for name in found if run.allocation(name).complete), None)


def _find_lacking(run: Run, allocation: Allocation) -> dict[str, LCAError]:
    """Return an error for each question that cannot be answered, with the call that would make an answer possible."""

    def replace_with(argument: Argument) -> Remedy:
        return ("Replace the allocation with ", allocation.remake(argument), ".")

    model = ("Ask this question with ", Call("analysis.prune", run.path), ".")
    lacking = {"prune": LCAError("it needs the model", remedy=model)}
    if "lca" not in allocation.arrays:
        parts = LCAError("it needs the LCA of each parameter", remedy=replace_with(Argument("keep", "lca")))
        lacking |= dict.fromkeys(("helping", "neurons", "oscillation", "tails", "subset"), parts)
    elif "gradient_sign" not in allocation.arrays:
        signs = replace_with(Argument("gradient_signs", True))
        lacking["crossings of the gradient"] = LCAError("they need the signs of the gradient", remedy=signs)
    if "class_lca" not in allocation.arrays:
        by_class = replace_with(Argument("by_class", True))
        lacking["synchrony by class"] = LCAError("it needs the LCA of each class", remedy=by_class)
    if _find_held_out(run, allocation) is None:
        held_out = ("Allocate one with ", Call("allocate", run.path, split="val"), ".")
        lacking["overfit"] = LCAError("it needs the allocation of a held-out split", remedy=held_out)
    return lacking
