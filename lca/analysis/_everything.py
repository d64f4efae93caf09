"""Every question that a run's arrays can answer; each large array is read once where that is possible."""

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
from lca.analysis.iterations import choose_iterations
from lca.analysis.question import Result, question
from lca.analysis.tiles import Consumer, feed
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
    """run: the path of the run. answers: the results by question, each as that question alone gives it.

    unanswered: by question, why it has no answer, with the remedy.
    """

    run: str
    answers: dict[str, Result]
    unanswered: dict[str, LCAError]

    @classmethod
    def tabulate(cls, results: Sequence[Self]) -> Answer:
        """The tables of all questions that all runs answer, one after another."""
        found = combine(results)
        tables = [
            replace(table, title=f"{answer.question}: {table.title}" if table.title else answer.question)
            for answer in found.answers
            for table in answer.tables
        ]
        notes = [f"{answer.question}: {note}" for answer in found.answers for note in answer.notes]
        notes += [f"not answered: {asked}: {lacking}" for asked, lacking in found.unanswered.items()]
        iterations = next(answer.iterations for answer in found.answers if answer.question == "layers")
        return Answer("everything", tables, iterations, notes, {a.question: a.arrays for a in found.answers})


@dataclass(frozen=True)
class Combined:
    """What runs answer together. answers: the tables of each question that all of them answer, in the order of RESULTS.

    unanswered: by question, why it has no answer, with the remedy.
    """

    answers: list[Answer]
    unanswered: dict[str, LCAError]


@question(divide="max_cells")
def everything(
    run: Run,
    *,
    name: str = "train",
    unconverged: bool = False,
    max_cells: int = MAX_CELLS,
    subsets: bool = True,
) -> Everything:
    """Ask every question for which the run has the arrays, with the defaults of each question.

    Reads each large array once, where each question alone would read it again.

    Args:
        run: The run: a path, a URL, an lca.Run, or a sequence of them for runs of the same model.
        name: The allocation to ask about.
        unconverged: Whether iterations that did not converge count too.
        max_cells: Neurons × bins of time to keep, of eight bytes each, for all runs together.
        subsets: Whether to ask about allocations over a subset too, which reads two arrays once more each.

    Returns:
        The results by question, and what the other questions lack.

    Raises:
        LCAError: If the run has no such allocation, or no iteration of it counts.

    Example:
        >>> lca.analysis.everything("run.zarr").answers["layers"]
    """
    allocation = run.allocation(name)
    choose_iterations(allocation, unconverged)  # raises where nothing counts
    answers: dict[str, Result] = {}
    unanswered = _find_lacking(run, allocation)

    def ask(asked: str, find: Callable[[], Result]) -> None:
        """Keep the result, or the reason why it is missing, so that the other questions are answered."""
        if asked not in unanswered:
            try:
                answers[asked] = find()
            except LCAError as failure:
                unanswered[asked] = failure

    by_class = "class_lca" in allocation.arrays
    ask("layers", lambda: layers(run, name=name, unconverged=unconverged))
    ask("error", lambda: error(run))
    ask("synchrony", lambda: synchrony(run, name=name, unconverged=unconverged, by_class=by_class))
    pair: Pair | None = None
    if "overfit" not in unanswered:
        try:
            pair = Pair(run, name, str(_find_held_out(run, allocation)), unconverged)
        except LCAError as failure:
            unanswered["overfit"] = failure
    if "lca" in allocation.arrays:
        answers |= _ask_parts(run, allocation, unconverged, max_cells, pair.sums[:1] if pair else [])
        if subsets:
            ask("subset", lambda: subset(run, name=name, unconverged=unconverged))
    if pair:
        if pair.sums:
            feed(run, pair.allocations[1].lca, pair.chosen.counted, pair.sums[1:])
        answers["overfit"] = pair.result()
    return Everything(str(run.path), answers, unanswered)


def combine(results: Sequence[Everything]) -> Combined:
    """The tables of each question that all runs answer, and what the others lack."""
    answers, unanswered = [], {}
    for asked, of in RESULTS.items():
        found = [result.answers[asked] for result in results if asked in result.answers]
        if len(found) == len(results):
            try:
                answers.append(of.tabulate(found))
            except LCAError as failure:  # where the runs have no allocation in common
                unanswered[asked] = failure
    for asked in dict.fromkeys(asked for result in results for asked in result.unanswered):
        first, *others = (result for result in results if asked in result.unanswered)
        unanswered[asked] = _add_runs(first.unanswered[asked], [other.run for other in others])
    return Combined(answers, unanswered)


def _add_runs(lacking: LCAError, others: Sequence[str]) -> LCAError:
    """The same error, which names the other runs that lack the same."""
    if not others:
        return lacking
    parts = (lacking.remedy,) if isinstance(lacking.remedy, str) else lacking.remedy
    also = f"{' ' if lacking.remedy else ''}The same holds for {', '.join(others)}."
    return LCAError(lacking.message, expected=lacking.expected, found=lacking.found, remedy=(*parts, also))


def _ask_parts(
    run: Run, allocation: Allocation, unconverged: bool, max_cells: int, others: Sequence[Consumer]
) -> dict[str, Result]:
    """The questions that need the LCA of each parameter, from one pass over it. others: take its tiles too."""
    chosen = choose_iterations(allocation, unconverged)
    signs, sums = SignCounts(run.parameters, chosen), NeuronSums(run, chosen, max_cells)
    distribution = Distribution(run.parameters.size, chosen)
    directions = Directions(run, allocation.name, chosen, "gradient_sign" in allocation.arrays)
    feed(run, allocation.lca, chosen.counted, [signs, sums, distribution, directions.of_lca, *others])
    directions.feed_others()
    return {
        "helping": signs.result(allocation),
        "neurons": sums.result(),
        "oscillation": directions.result(),
        "tails": distribution.result(),
    }


def _find_held_out(run: Run, allocation: Allocation) -> str | None:
    """The allocation of a split that was not trained on, val rather than test."""
    if allocation.attributes["split"] != "train":
        return None
    found = [name for name in ("val", "test") if name in run.allocations]
    return next((name for name in found if run.allocation(name).complete), None)


def _find_lacking(run: Run, allocation: Allocation) -> dict[str, LCAError]:
    """What each question that cannot be answered lacks, and the call that remedies it."""

    def replace_with(argument: Argument) -> Remedy:
        return ("Replace the allocation with ", allocation.remake(argument), ".")

    model = ("Ask it with ", Call("analysis.prune", run.path), ".")
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
        lacking["overfit"] = LCAError("it compares train with another split", remedy=held_out)
    return lacking
