"""The findings that open a report: sentences computed from the measurements of its runs.

Several runs are described by means over these runs. No sentence claims more than the allocation shows: a sign that the
audit does not confirm is called uncertain or unknown.
"""

from collections.abc import Sequence

import numpy as np

from lca.figures.axes import Floats
from lca.figures.report_certificate import describe_certificate
from lca.figures.report_evidence import Evidence
from lca.figures.report_hurting import describe_hurting
from lca.figures.report_sentences import Finding, enumerate_words, significant, spread
from lca.text import pluralize

N_RISES = 3  # largest number of rises of the loss that are named


def find(runs: Sequence[Evidence]) -> list[Finding]:
    """Return the findings about one or more runs of the same model."""
    describers = (
        describe_learning,
        describe_layers,
        describe_hurting,
        describe_rises,
        describe_helping,
        describe_certificate,
    )
    return [describe(runs) for describe in describers]


def describe_learning(runs: Sequence[Evidence]) -> Finding:
    """Describe how far the loss fell, and when half and 90 % of this decrease were reached."""
    learned = [run.learning for run in runs]
    changes = np.array([each.change for each in learned])
    falls, rises = changes < 0, changes > 0
    start, end = (significant(float(np.mean([getattr(each, key) for each in learned]))) for key in ("start", "end"))
    size = spread(np.abs(changes))
    span = _describe_span([(each.first, each.last) for each in learned])
    many = len(runs) > 1
    subject = f"On average over {len(runs)} runs, the {runs[0].split} loss" if many else f"The {runs[0].split} loss"
    if falls.all():
        text = f"{subject} fell by {size} {runs[0].unit}, from {start} to {end}{span}."
        text += "" if any(each.end - each.lowest > -each.change for each in learned) else _describe_progress(runs)
    elif rises.all():
        text = f"{subject} rose by {size} {runs[0].unit}, from {start} to {end}{span}."
    elif many:
        signed = spread(changes, signed=True)
        text = f"The {runs[0].split} loss fell in {falls.sum()} of {len(runs)} runs. "
        text += f"Its mean change is {signed} {runs[0].unit}."
    else:
        text = f"{subject} is the same at the start and at the end, {start} {runs[0].unit}{span}."
    return Finding(text + _describe_lowest(runs) + _describe_coverage(runs), "loss", "learning", not falls.all())


def describe_layers(runs: Sequence[Evidence]) -> Finding:
    """Describe which layer lowered the loss most and which least, with their shares of the total LCA."""
    names, totals, unit = runs[0].layers.layers, np.array([run.layers.total for run in runs]), runs[0].unit
    mean, total = totals.mean(axis=0), float(totals.mean(axis=0).sum())
    most, least = int(np.argmin(mean)), int(np.argmax(mean))
    average = f"On average over {len(runs)} runs, " if len(runs) > 1 else ""

    def describe(i: int) -> str:
        share = f", {significant(100 * mean[i] / total, 2)} % of the total" if mean[i] < 0 and total < 0 else ""
        return f"{spread(totals[:, i], signed=True)} {unit}{share}"

    if len(names) == 1:
        text = f"The model has a single layer, {names[0]}. Its LCA is {spread(totals[:, 0], signed=True)} {unit}."
    elif mean[most] >= 0:
        text = (
            f"{average}no layer lowered the loss. The LCA of the layers ranges from {describe(most)} "
            f"(layer {names[most]}) to {describe(least)} (layer {names[least]})."
        )
    else:
        does = "did least" if mean[least] <= 0 else "did not help but raised the loss most"
        text = (
            f"{average}layer {names[most]} did most to lower the loss: its LCA is {describe(most)}. "
            f"Layer {names[least]} {does}: {describe(least)}."
        )
    return Finding(text[0].upper() + text[1:] + _describe_exclusions(runs), "layers", "layers", bool(mean[most] >= 0))


def describe_rises(runs: Sequence[Evidence]) -> Finding:
    """Describe in which iterations the loss rose most, and which layer contributed most to each rise."""
    changes = [run.changes for run in runs]
    n, n_known = (int(sum(np.sum(flag(each)) for each in changes)) for flag in (lambda c: c > 0, np.isfinite))
    rises = sorted(
        ((float(of[t]), i, int(t)) for i, of in enumerate(changes) for t in np.flatnonzero(of > 0)),
        key=lambda rise: -rise[0],
    )
    within = f" of {len(runs)} runs" if len(runs) > 1 else ""
    if not n:
        return Finding(f"The loss did not rise in any of the {n_known:,} iterations{within}.", "over-time", "rises")
    largest = []
    for rise, i, t in rises[:N_RISES]:
        of_run = f" of {runs[i].name}" if len(runs) > 1 else ""
        largest.append(
            f"iteration {t:,}{of_run} ({significant(rise, signed=True)} {runs[0].unit}; {_name_cause(runs[i], t)})"
        )
    most = f"It rose most in {enumerate_words(largest)}." if n > 1 else f"This was {largest[0]}."
    text = f"The loss rose in {n:,} of {n_known:,} iterations{within}. {most}"
    return Finding(text, "over-time", "rises")


def describe_helping(runs: Sequence[Evidence]) -> Finding:
    """Describe what percentage of the parameters helps, its range over layers, and how evenly parameters help."""
    results = [run.helping for run in runs if run.helping is not None]
    if not results:
        text = "The percentage of parameters that help is unknown, because the LCA of single parameters was not stored."
        return Finding(text, "layers", "helping")
    without, n = sum(result.n_without_effect for result in results), len(results) * runs[0].layers.table.size
    percentages = [result.percentage for result in results if np.isfinite(result.percentage)]
    if not percentages:
        return Finding("No parameter has any effect: the LCA of every parameter is 0.", "helping", "helping")
    average = f" (mean over {pluralize(len(percentages), 'run')})" if len(runs) > 1 else ""
    text = f"In an average iteration, {spread(percentages)} % of the parameters with non-zero LCA help{average}."
    text += _describe_range(runs[0].layers.layers, [result.percentage_by_layer for result in results])
    text += _describe_evenness(np.sum([result.histogram for result in results], axis=0))
    if without:
        share = f"{significant(100 * without / n, 2)} %"
        who = (
            f"{without:,} of {n:,} parameters ({share})"
            if len(results) == 1
            else f"On average, {share} of the parameters"
        )
        is_whole = all(result.iterations.mask.all() for result in results)
        never = "never have an effect" if is_whole else "have no effect in the iterations used"
        text += f" {who} {never}: their LCA is always 0."
    else:
        text += " Every parameter has an effect in at least one iteration."
    return Finding(text, "helping", "helping")


def _describe_span(spans: Sequence[tuple[int, int]]) -> str:
    """Return the iterations between the first and the last known loss, or "" if the runs differ."""
    if len(set(spans)) > 1:
        return ""
    first, last = spans[0]
    if first == 0:
        return f", over {pluralize(last, 'iteration')}"
    return f", between iterations {first:,} and {last:,}"


def _describe_progress(runs: Sequence[Evidence]) -> str:
    """Describe how many iterations it took, on average over the runs, to reach half and 90 % of the decrease."""
    learned = [run.learning for run in runs]
    half, most = (f"{np.mean([getattr(each, key) for each in learned]):,.0f}" for key in ("half", "most"))
    at_most = "at most " if any(each.sampled for each in learned) else ""
    unit = "iteration" if most == "1" else "iterations"
    if half == most:
        return f" At least 90 % of this decrease was reached after {at_most}{most} {unit}."
    return f" Half of this decrease was reached after {at_most}{half} and 90 % after {at_most}{most} {unit}."


def _describe_lowest(runs: Sequence[Evidence]) -> str:
    """Mention the lowest loss of a single run if it is well below both the first and the last one."""
    learned = runs[0].learning
    margin = min(learned.start, learned.end) - learned.lowest
    if len(runs) > 1 or margin <= 0.1 * abs(learned.change) or not margin > 0:
        return ""
    after = pluralize(learned.at_lowest, "iteration")
    return f" The lowest loss was {significant(learned.lowest)}, after {after}."


def _describe_coverage(runs: Sequence[Evidence]) -> str:
    """Say how much of the runs is allocated, unless all iterations are."""
    n, total = (sum(int(np.sum(f(run.changes))) for run in runs) for f in (np.isfinite, np.ones_like))
    if n == total:
        return ""
    change = spread([float(np.nansum(run.changes)) for run in runs], signed=True)
    of = f"{n:,} of {total:,} iterations" + (f" of the {len(runs)} runs" if len(runs) > 1 else "")
    mean = ", averaged over the runs" if len(runs) > 1 else ""
    return f" Only {of} are allocated and finite. The loss changes in these add up to {change} {runs[0].unit}{mean}."


def _describe_exclusions(runs: Sequence[Evidence]) -> str:
    """Say over how many iterations the LCA is summed, unless it is summed over all of them."""
    n, total = sum(run.layers.iterations.n for run in runs), sum(len(run.layers.iterations.mask) for run in runs)
    return (
        ""
        if n == total
        else f" The LCA is summed over the {n:,} of {total:,} iterations that are allocated and finite."
    )


def _name_cause(run: Evidence, t: int) -> str:
    """Name the layer that contributed most to the rise of the loss in an iteration."""
    of_layers = run.layers.lca[t]
    if not np.isfinite(of_layers).all():
        return "some LCA is not finite, so no layer is named"
    i = int(np.argmax(of_layers))
    if of_layers[i] <= 0:
        return "no layer has an LCA above 0"
    return f"layer {run.layers.layers[i]} contributed most: {significant(of_layers[i], signed=True)}"


def _describe_range(names: Sequence[str], by_layer: Sequence[Floats]) -> str:
    """Say how the percentage of parameters that help differs between layers."""
    known = [i for i in range(len(names)) if np.isfinite([of_run[i] for of_run in by_layer]).all()]
    if len(known) < 2:
        return ""
    mean = np.mean(by_layer, axis=0)
    low, high = min(known, key=lambda i: mean[i]), max(known, key=lambda i: mean[i])
    ends = (f"{significant(mean[i])} % (layer {names[i]})" for i in (low, high))
    return f" Among the layers, this ranges from {' to '.join(ends)}."


def _describe_evenness(histogram: Floats) -> str:
    """Say between which percentages of iterations the middle half of the parameters help, rounded outward to bins."""
    below = np.cumsum(histogram) / histogram.sum()
    width = 100 / len(histogram)
    low, high = width * int(np.searchsorted(below, 0.25)), width * (int(np.searchsorted(below, 0.75)) + 1)
    return f" Half of the parameters with any effect help in {low:.0f} to {high:.0f} % of the iterations."
