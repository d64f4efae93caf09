"""Every question that a run's arrays can answer, each large array being read once where that can be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lca.analysis._error import error
from lca.analysis._error import report as report_error
from lca.analysis._helping import SignCounts
from lca.analysis._helping import report as report_helping
from lca.analysis._layers import layers
from lca.analysis._layers import report as report_layers
from lca.analysis._neurons import MAX_CELLS, NeuronSums
from lca.analysis._neurons import report as report_neurons
from lca.analysis._oscillation import Directions
from lca.analysis._oscillation import report as report_oscillation
from lca.analysis._overfit import Pair
from lca.analysis._overfit import report as report_overfit
from lca.analysis._subset import report as report_subset
from lca.analysis._subset import subset
from lca.analysis._synchrony import report as report_synchrony
from lca.analysis._synchrony import synchrony
from lca.analysis._tails import Distribution
from lca.analysis._tails import report as report_tails
from lca.analysis.answer import Report
from lca.analysis.iterations import iterations
from lca.analysis.tiles import Consumer, feed
from lca.errors import LCAError
from lca.store.allocation import Allocation
from lca.store.run import Run

REPORTS: dict[str, Callable[..., Report]] = {
    "helping": report_helping,
    "layers": report_layers,
    "neurons": report_neurons,
    "oscillation": report_oscillation,
    "tails": report_tails,
    "synchrony": report_synchrony,
    "overfit": report_overfit,
    "error": report_error,
    "subset": report_subset,
}
NAMED_BY_RUN = ("neurons", "overfit")  # whose reports tell the runs apart


@dataclass(frozen=True)
class Everything:
    """answers: by question, each as that question alone gives it. unanswered: what it lacks, by question."""

    answers: dict[str, Any]
    unanswered: dict[str, str]


def everything(
    run: Run, name: str = "train", unconverged: bool = False, max_cells: int = MAX_CELLS, subsets: bool = True
) -> Everything:
    """Ask everything that the store has arrays for, with the defaults of each question.

    max_cells: of the neurons. subsets: whether to ask about them too, for which two arrays are read once more each.
    """
    allocation = run.allocation(name)
    chosen = iterations(allocation, unconverged)
    answers: dict[str, Any] = {}
    unanswered = _lacking(allocation)

    def ask(question: str, answer: Callable[[], Any]) -> None:
        """What a question lacks is no hindrance to the others."""
        if question not in unanswered:
            try:
                answers[question] = answer()
            except LCAError as error_:
                unanswered[question] = str(error_)

    ask("layers", lambda: layers(run, name, unconverged))
    ask("error", lambda: error(run))
    ask("synchrony", lambda: synchrony(run, name, unconverged, by_class="class_lca" in allocation.arrays))
    ask("overfit", lambda: Pair(run, name, str(_held_out(allocation)), unconverged))
    pair: Pair | None = answers.pop("overfit", None)  # its arrays are read below
    if "lca" in allocation.arrays:
        signs, sums = SignCounts(run.parameters, chosen), NeuronSums(run.parameters, chosen, max_cells)
        distribution = Distribution(run.parameters.size, chosen)
        directions = Directions(run, name, chosen, "gradient_sign" in allocation.arrays)
        consumers: list[Consumer] = [signs, sums, distribution, directions.of_lca]
        feed(run, allocation.lca, chosen.counted, [*consumers, *(pair.sums[:1] if pair else [])])
        directions.feed_others()
        answers["helping"] = signs.result(allocation)
        answers["neurons"] = sums.result()
        answers["oscillation"] = directions.result()
        answers["tails"] = distribution.result()
        if subsets:
            ask("subset", lambda: subset(run, name, (), unconverged))
    if pair:
        if pair.sums:
            feed(run, pair.allocations[1].lca, pair.chosen.counted, pair.sums[1:])
        answers["overfit"] = pair.result()
    return Everything(answers, unanswered)


def report(results: Sequence[Everything], runs: Sequence[str]) -> tuple[list[Report], dict[str, str]]:
    """One for each question that all runs answer, and what the others lack; runs: their names."""
    reports, unanswered = [], {}
    for question, of in REPORTS.items():
        answers = [result.answers.get(question) for result in results]
        if all(answers):
            try:
                reports.append(of(answers, runs) if question in NAMED_BY_RUN else of(answers))
            except LCAError as error_:  # where the runs have no allocation in common
                unanswered[question] = str(error_)
    for question in dict.fromkeys(question for result in results for question in result.unanswered):
        without = [(run, result) for run, result in zip(runs, results, strict=True) if question in result.unanswered]
        (_, first), *others = without
        also = f"; so it is with {', '.join(run for run, _ in others)}" if others else ""
        unanswered[question] = first.unanswered[question] + also
    return reports, unanswered


def _held_out(allocation: Allocation) -> str | None:
    """The allocation of a split that was not trained on, val rather than test."""
    if allocation.attributes["split"] != "train":
        return None
    there = [name for name in ("val", "test") if name in allocation.run.allocations]
    return next((name for name in there if allocation.run.allocation(name).complete), None)


def _lacking(allocation: Allocation) -> dict[str, str]:
    """What a question lacks that cannot be answered, and the command that makes it."""
    path, again = allocation.run.path, allocation.run.again
    lacking = {"prune": f"it takes the model: `lca analyze prune {path}{again}`"}
    if "lca" not in allocation.arrays:
        needs = f"it takes the LCA of each parameter: `{allocation.command('--keep lca')}`"
        lacking |= dict.fromkeys(("helping", "neurons", "oscillation", "tails", "subset"), needs)
    elif "gradient_sign" not in allocation.arrays:
        lacking["crossings of the gradient"] = f"they take its signs: `{allocation.command('--gradient-signs')}`"
    if "class_lca" not in allocation.arrays:
        lacking["synchrony by class"] = f"it takes the LCA of each class: `{allocation.command('--by-class')}`"
    if _held_out(allocation) is None:
        lacking["overfit"] = f"it compares train with another split: `lca allocate {path} --split val{again}`"
    return lacking
