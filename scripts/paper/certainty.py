"""The residual of each quadrature rule.     [arXiv 1909.01440, section 2 and table S1]"""

from collections.abc import Sequence

from lca.analysis import error
from lca.store.run import Run
from paper.archive import Archive
from paper.experiments import RULES
from paper.measured import Measured


def allocations_by_rule(archive: Archive, experiment: str) -> tuple[Run, dict[str, str]]:
    """Return the first run, and a mapping from each rule to the name of its allocation, with `train` first."""
    of_train = archive.first(experiment).allocation("train").attributes["rule"]
    names = {of_train: "train", **{rule: rule for rule in RULES if rule != of_train}}
    return archive.first(experiment, *names.values()), names


def simpson_against_first_order(archive: Archive, experiment: str) -> Measured:
    run, names = allocations_by_rule(archive, experiment)
    summaries = error(run, names=tuple(names.values())).summaries
    off = {
        rule: 100 * abs(summaries[name].cumulative_residual / summaries[name].change) for rule, name in names.items()
    }
    text = ", ".join(f"{rule} {off[rule]:.2g} %" for rule in RULES)
    return Measured(f"{text} of the loss change", off["simpson"] < 1 and off["first-order"] > 10 * off["simpson"])


def within_bounds(archive: Archive, experiments: Sequence[str]) -> Measured:
    """Check the residuals of every iteration of every finished run."""
    n, failed, largest, cumulative = 0, 0, 0.0, 0.0
    for experiment in experiments:
        for run in archive.runs(experiment) if archive.has(experiment) else []:
            summary = error(run, names=("train",)).summaries["train"]
            n, failed = n + summary.iterations, failed + summary.unconverged + summary.not_finite
            largest = max(largest, summary.largest_residual)
            cumulative = max(cumulative, 100 * abs(summary.cumulative_residual / summary.change))
    archive.runs(experiments[0])
    text = f"{n:,} iterations, {failed} not converged, residuals up to {largest:.1e} nats per iteration"
    return Measured(f"{text} and {cumulative:.2g} % in total", not failed and cumulative < 1)
