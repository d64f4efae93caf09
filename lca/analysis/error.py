"""How exact is an allocation, of the sum and of the parts?     [arXiv 1909.01440, table S1]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lca.analysis.iterations import Iterations, iterations
from lca.analysis.report import Column, Report, Table, whole
from lca.audit import mean_with_confidence
from lca.errors import LCAError
from lca.store import Run
from lca.summary import Summary, summarize


@dataclass(frozen=True)
class Errors:
    """The certificates of the allocations of a run. summaries, rules, iterations: by name of the allocation.

    Iterations that did not converge are in them: theirs is the error that is asked for.
    """

    summaries: dict[str, Summary]
    rules: dict[str, str]
    iterations: dict[str, Iterations]


def error(run: Run, names: Sequence[str] = ()) -> Errors:
    """Of these allocations, or of all that are complete."""
    chosen = [run.allocation(name) for name in names or run.allocations]
    chosen = [allocation for allocation in chosen if names or allocation.complete]
    if not chosen:
        raise LCAError(f"{run.path} has no complete allocation. Make one with `lca allocate {run.path}`.")
    return Errors(
        {allocation.name: summarize(allocation) for allocation in chosen},
        {allocation.name: str(allocation.attributes["rule"]) for allocation in chosen},
        {allocation.name: iterations(allocation, unconverged=True) for allocation in chosen},
    )


def report(results: Sequence[Errors]) -> Report:
    """A row for each allocation that all runs have     [table S1]"""
    names = [name for name in results[0].summaries if all(name in result.summaries for result in results)]
    if not names:
        raise LCAError("the runs have no allocation in common, of those that are complete.")

    def column(
        figure: Callable[[Summary], float], digits: int = 2, text: Callable[[float], str] | None = None
    ) -> Column:
        return Column(np.array([[figure(result.summaries[n]) for n in names] for result in results]), digits, text)

    def exponent(value: float) -> str:
        return f"{value:.1e}"

    table = Table(
        "allocation",
        [f"{name}, {results[0].rules[name]}" for name in names],
        {
            "|Σ A − ΔL| (nats)": column(lambda s: abs(s.cumulative_residual), text=exponent),
            "of ΔL %": column(lambda s: 100 * abs(s.cumulative_residual / s.change) if s.change else np.nan, 4),
            "largest (nats)": column(lambda s: s.largest_residual, text=exponent),
            "gradients": column(lambda s: s.gradients_per_iteration),
            "refined": column(lambda s: s.refined, text=whole),
            "not converged": column(lambda s: s.unconverged, text=whole),
            "parts off %": column(lambda s: 100 * mean_with_confidence(s.audit.part_error)[0] if s.audit else np.nan),
            "signs wrong %": column(
                lambda s: 100 * mean_with_confidence(s.audit.sign_change)[0] if s.audit else np.nan
            ),
        },
    )
    notes = [
        "ΔL: the loss change over the iterations that are finite; largest: of a single iteration",
        "parts: Σ|A − exact| / Σ|A| of the audited iterations, – where there was no audit",
    ]
    return Report("error", [table], [result.iterations[names[0]] for result in results], notes)
