"""Every question that a run's arrays can answer, each large array being read once where that can be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lca.analysis.error import error
from lca.analysis.error import report as report_error
from lca.analysis.helping import SignCounts
from lca.analysis.helping import report as report_helping
from lca.analysis.iterations import iterations
from lca.analysis.layers import layers
from lca.analysis.layers import report as report_layers
from lca.analysis.neurons import NeuronSums
from lca.analysis.neurons import report as report_neurons
from lca.analysis.oscillation import Directions
from lca.analysis.oscillation import report as report_oscillation
from lca.analysis.overfit import Pair
from lca.analysis.overfit import report as report_overfit
from lca.analysis.report import Report
from lca.analysis.subset import report as report_subset
from lca.analysis.subset import subset, subsets_of
from lca.analysis.synchrony import report as report_synchrony
from lca.analysis.synchrony import synchrony
from lca.analysis.tails import Distribution
from lca.analysis.tails import report as report_tails
from lca.analysis.tiles import Consumer, feed
from lca.errors import LCAError
from lca.store import Allocation, Run

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


def everything(run: Run, name: str = "train", unconverged: bool = False) -> Everything:
    """Ask everything that the store has arrays for, with the defaults of each question."""
    allocation = run.allocation(name)
    chosen = iterations(allocation, unconverged)
    held_out = _held_out(allocation)
    pair = Pair(run, name, held_out, unconverged) if held_out else None
    answers: dict[str, Any] = {"layers": layers(run, name, unconverged), "error": error(run)}
    if "lca" in allocation.arrays:
        signs, sums = SignCounts(run.parameters, chosen), NeuronSums(run.parameters, chosen)
        distribution = Distribution(run.parameters.size, chosen)
        directions = Directions(run, name, chosen, "gradient_sign" in allocation.arrays)
        consumers: list[Consumer] = [signs, sums, distribution, directions.of_lca]
        feed(allocation.lca, chosen.counted, [*consumers, *(pair.sums[:1] if pair else [])])
        directions.feed_others()
        answers["helping"] = signs.result(allocation)
        answers["neurons"] = sums.result()
        answers["oscillation"] = directions.result()
        answers["tails"] = distribution.result()
        if subsets_of(run, name):
            answers["subset"] = subset(run, name, (), unconverged)
    if pair:
        if pair.sums:
            feed(pair.allocations[1].lca, pair.chosen.counted, pair.sums[1:])
        answers["overfit"] = pair.result()
    lacking = {}
    try:
        answers["synchrony"] = synchrony(run, name, unconverged, by_class="class_lca" in allocation.arrays)
    except LCAError as error_:  # for want of three successive iterations
        lacking["synchrony"] = str(error_)
    return Everything(answers, {**_lacking(allocation, answers), **lacking})


def report(results: Sequence[Everything], runs: Sequence[str]) -> list[Report]:
    """One for each question that all runs answer; runs: their names."""
    reports = []
    for question, of in REPORTS.items():
        answers = [result.answers.get(question) for result in results]
        if all(answers):
            reports.append(of(answers, runs) if question in NAMED_BY_RUN else of(answers))
    return reports


def _held_out(allocation: Allocation) -> str | None:
    """The first complete allocation of another split than this one's."""
    others = [allocation.run.allocation(name) for name in allocation.run.allocations]
    split = allocation.attributes["split"]
    return next((other.name for other in others if other.complete and other.attributes["split"] != split), None)


def _lacking(allocation: Allocation, answers: dict[str, Any]) -> dict[str, str]:
    """What a question that is not answered lacks, and the command that makes it."""
    again, path = f"lca allocate {allocation.run.path}", allocation.run.path
    parts = "the LCA of each parameter: `{again}` without --keep layers"
    wanted = {
        "helping": parts,
        "neurons": parts,
        "oscillation": parts,
        "tails": parts,
        "overfit": "an allocation of another split: `{again} --split val`",
        "subset": "an allocation over fewer examples: `{again} --examples 1000 --name subset-1000`",
    }
    lacking = {what: need.format(again=again) for what, need in wanted.items() if what not in answers}
    if "class_lca" not in allocation.arrays:
        lacking["synchrony by class"] = f"the LCA of each class: `{again} --by-class`"
    if "oscillation" in answers and answers["oscillation"].crossings is None:
        lacking["crossings of the gradient"] = f"its signs: `{again} --gradient-signs`"
    lacking["prune"] = f"the model: `lca analyze prune {path}`"
    return lacking
